package bench

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// Machine says in a line where a run is: how much a path costs follows from the processor and its caches.
func Machine(cpu int) string {
	what := processor(readFile("/proc/cpuinfo"))
	if caches := caches(fmt.Sprintf("/sys/devices/system/cpu/cpu%d/cache", cpu)); caches != "" {
		what += "; caches " + caches
	}
	return fmt.Sprintf("%d CPUs (%s), Linux %s", runtime.NumCPU(), what, kernel())
}

// processor is the first of /proc/cpuinfo. Its name alone may say little: hypervisors cut it short.
func processor(cpuinfo string) string {
	first, _, _ := strings.Cut(cpuinfo, "\n\n")
	fields := map[string]string{}
	for line := range strings.Lines(first) {
		name, value, _ := strings.Cut(line, ":")
		fields[strings.TrimSpace(name)] = strings.TrimSpace(value)
	}
	what := cmp.Or(fields["model name"], "unknown CPU")
	if family := fields["cpu family"]; family != "" {
		what += fmt.Sprintf(", family %s, model %s", family, fields["model"])
	}
	return what
}

// caches lists those of a CPU, nearest first: "L1 Data 48K, L1 Instruction 32K, L2 1024K, L3 32768K of CPUs 0-1".
func caches(dir string) string {
	var list []string
	for i := 0; ; i++ {
		read := func(name string) string { return readFile(filepath.Join(dir, fmt.Sprintf("index%d", i), name)) }
		level := read("level")
		if level == "" {
			return strings.Join(list, ", ")
		}
		what := "L" + level
		if kind := read("type"); kind != "Unified" {
			what += " " + kind
		}
		what += " " + read("size")
		if shared := read("shared_cpu_list"); strings.ContainsAny(shared, ",-") {
			what += " of CPUs " + shared
		}
		list = append(list, what)
	}
}

// readFile is a file without the blanks around its text, and empty when it cannot be read.
func readFile(name string) string {
	text, err := os.ReadFile(name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}
