package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Conditions are what a sample was taken in.
type Conditions struct {
	// Load is the machine's load average over a minute.
	Load float64 `json:"load"`
	// Steal is the part of the time that the hypervisor gave the pinned CPU to others, 0 to 1.
	Steal float64 `json:"steal"`
	// Foreign is the CPU time, in CPUs, that went to other processes. The kernel counts both in ticks of 10 ms, so in a
	// short sample they are coarse, and their means over many say more.
	Foreign float64 `json:"foreign_cpus"`
	CPU     int     `json:"cpu"`
	Kernel  string  `json:"kernel"`
	// Mitigations are those in force, of the CPU's faults that the kernel knows.
	Mitigations string `json:"mitigations"`
	MTU         int    `json:"mtu,omitempty"`
	Offloads    string `json:"offloads,omitempty"`
}

// machine is one look at the counters of the kernel.
type machine struct {
	at    time.Time
	load  float64
	busy  time.Duration         // of all CPUs, without steal
	steal map[int]time.Duration // by CPU
	own   time.Duration         // of this process
}

// tick is the unit of /proc/stat.
const tick = time.Second / 100

func readMachine() (m machine, err error) {
	m.at = time.Now()
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return m, fmt.Errorf("read the machine's load: %w", err)
	}
	if _, err := fmt.Sscan(string(text), &m.load); err != nil {
		return m, fmt.Errorf("read the machine's load: %w", err)
	}
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return m, fmt.Errorf("read the CPUs' times: %w", err)
	}
	if m.busy, m.steal, err = parseStat(string(stat)); err != nil {
		return m, err
	}
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		return m, fmt.Errorf("read own CPU time: %w", err)
	}
	m.own = time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	return m, nil
}

// parseStat reads /proc/stat: cpuN user nice system idle iowait irq softirq steal.
func parseStat(stat string) (busy time.Duration, steal map[int]time.Duration, err error) {
	steal = map[int]time.Duration{}
	for line := range strings.Lines(stat) {
		fields := strings.Fields(line)
		if len(fields) < 9 || !strings.HasPrefix(fields[0], "cpu") || fields[0] == "cpu" {
			continue
		}
		cpu, err := strconv.Atoi(strings.TrimPrefix(fields[0], "cpu"))
		if err != nil {
			return 0, nil, fmt.Errorf("read the CPUs' times: %w", err)
		}
		for i, field := range fields[1:9] {
			ticks, err := strconv.ParseInt(field, 10, 64)
			if err != nil {
				return 0, nil, fmt.Errorf("read the times of CPU %d: %w", cpu, err)
			}
			switch spent := time.Duration(ticks) * tick; i {
			case 3, 4: // idle, waiting
			case 7:
				steal[cpu] = spent
			default:
				busy += spent
			}
		}
	}
	return busy, steal, nil
}

func conditionsBetween(a, b machine, cpu int) Conditions {
	c := Conditions{Load: b.load, CPU: cpu, Kernel: kernel(), Mitigations: mitigations()}
	if passed := b.at.Sub(a.at); passed > 0 {
		c.Steal = float64(b.steal[cpu]-a.steal[cpu]) / float64(passed)
		c.Foreign = max(0, float64(b.busy-a.busy-(b.own-a.own))/float64(passed))
	}
	return c
}

func kernel() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}

// mitigations lists "fault: remedy" for the faults that this CPU has.
func mitigations() string {
	files, err := filepath.Glob("/sys/devices/system/cpu/vulnerabilities/*")
	if err != nil || len(files) == 0 {
		return "unknown"
	}
	var list []string
	for _, f := range files {
		if state := readFile(f); state != "" && state != "Not affected" {
			list = append(list, filepath.Base(f)+": "+state)
		}
	}
	return strings.Join(list, "; ")
}
