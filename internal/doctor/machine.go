package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/moby/moby/api/types/system"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/internal/docker"
)

// machine is what the engine runs on.
type machine struct {
	info  system.Info
	local bool // it is this one
}

func dockerMissing(err error) Finding {
	f := Finding{Name: "docker engine", State: Missing, Mend: "install and start Docker: make deps does both"}
	if err == nil {
		f.Found = "does not answer"
		return f
	}
	f.Found = err.Error()
	if errors.Is(err, docker.ErrSilent) {
		f.Mend = "look at the engine's log and restart it"
	}
	if errors.Is(err, docker.ErrDenied) {
		f.Mend = "run lab as root, or as a member of the group that owns the socket"
	}
	return f
}

// dockerCommand looks for the docker command: kind makes nodes with it.
func (d Doctor) dockerCommand() Finding {
	f := Finding{Name: "docker command", State: OK}
	p, err := exec.LookPath("docker")
	if err != nil {
		f.State, f.Found, f.Mend = Missing, "not on PATH", "install the docker command line (package docker-cli or docker.io)"
		return f
	}
	f.Found = p
	return f
}

func (d Doctor) dockerMachine(ctx context.Context, e *docker.Engine) (*machine, []Finding) {
	info, err := e.Info(ctx)
	if err != nil {
		return nil, []Finding{dockerMissing(err)}
	}
	m := &machine{info: info, local: d.isLocal(info)}
	f := Finding{
		Name: "docker engine", State: OK,
		Found: fmt.Sprintf("%s, API %s, storage %s", info.ServerVersion, e.APIVersion(), info.Driver),
	}
	// kind asks for private cgroup namespaces, which came with this API.
	if older(e.APIVersion(), 1, 41) {
		f.State, f.Mend = Missing, "kind needs Docker 20.10 or newer: upgrade it"
	}
	if info.OSType != "linux" {
		f.State, f.Found, f.Mend = Missing, "runs "+info.OSType+" containers", "switch Docker to Linux containers"
	}
	return m, []Finding{f}
}

// older tells whether a version such as 1.41 is below major.minor. What cannot be read is not.
func older(v string, major, minor int) bool {
	var a, b int
	if _, err := fmt.Sscanf(v, "%d.%d", &a, &b); err != nil {
		return false
	}
	return a < major || a == major && b < minor
}

// isLocal compares kernel and host name: a Docker in a virtual machine differs in at least one.
func (d Doctor) isLocal(info system.Info) bool {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return false
	}
	name, err := os.Hostname()
	return err == nil && name == info.Name && unix.ByteSliceToString(u.Release[:]) == info.KernelVersion
}

// capSysResource is CAP_SYS_RESOURCE of linux/capability.h.
const capSysResource = 24

// privilege looks whether Docker can start privileged containers where the machine itself lacks a capability: runc
// asks for all there are, and a sandbox may hold one back.
func (d Doctor) privilege(m *machine) Finding {
	f := Finding{Name: "privileged containers", State: OK, Found: "all capabilities are there"}
	b, err := os.ReadFile(filepath.Join(d.Root, "/proc/1/status"))
	if err != nil {
		f.State, f.Found, f.Mend = Unknown, err.Error(), "run lab doctor as root"
		return f
	}
	var bound uint64
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "CapBnd:"); ok {
			if _, err := fmt.Sscanf(strings.TrimSpace(rest), "%x", &bound); err != nil {
				f.State, f.Found, f.Mend = Unknown, "cannot read "+strings.TrimSpace(line), "look at CapBnd in /proc/1/status"
				return f
			}
		}
	}
	if bound&(1<<capSysResource) != 0 {
		return f
	}
	if m.info.DefaultRuntime == "runc" {
		f.State, f.Found = Missing, "this machine lacks CAP_SYS_RESOURCE, and runc insists on it"
		f.Mend = "run make deps: it registers a runtime that does without"
		return f
	}
	f.Found = "CAP_SYS_RESOURCE is lacking; runtime " + m.info.DefaultRuntime + " does without"
	return f
}

func cgroups(m *machine) Finding {
	f := Finding{Name: "cgroups", State: OK, Found: "version " + m.info.CgroupVersion}
	var lacking []string
	for name, on := range map[string]bool{"memory": m.info.MemoryLimit, "cpu": m.info.CPUShares, "pids": m.info.PidsLimit} {
		if !on {
			lacking = append(lacking, name)
		}
	}
	if len(lacking) > 0 {
		f.State = Missing
		f.Found += ", without controller " + strings.Join(lacking, ", ")
		f.Mend = "switch the controller on: cgroup_enable=memory on the kernel's command line, or Delegate=yes for a rootless Docker"
	}
	return f
}
