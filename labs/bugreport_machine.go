package labs

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/internal/bugreport"
	"wirelab.dev/wirelab/internal/cluster"
	"wirelab.dev/wirelab/internal/docker"
	"wirelab.dev/wirelab/internal/doctor"
	"wirelab.dev/wirelab/internal/image"
	"wirelab.dev/wirelab/internal/version"
)

// machine is what there is to know without a lab.
func (b *bugReporter) machine(ctx context.Context, e *docker.Engine, connectErr error) {
	about := [][2]string{{"lab command", version.Version}, {"Go", runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH}}
	var u unix.Utsname
	if err := unix.Uname(&u); err == nil {
		about = append(about, [2]string{"Kernel", unix.ByteSliceToString(u.Release[:]) + " " + unix.ByteSliceToString(u.Machine[:])})
	}
	if e != nil {
		info, err := e.Info(ctx)
		if err != nil {
			b.lack("Machine", "Docker", "machine/docker", err)
		} else {
			about = append(about, [2]string{"Docker", fmt.Sprintf("%s, API %s, %s, %s, cgroup %s by %s, %d CPUs, %d MiB", info.ServerVersion, e.APIVersion(),
				info.OperatingSystem, info.Driver, info.CgroupVersion, info.CgroupDriver, info.NCPU, info.MemTotal>>20)})
		}
	}
	p := b.Profile
	if b.lab != nil {
		about = append(about, b.aboutLab()...)
		p = b.lab.Profile
	}
	b.report.About = append(about, b.report.About...)
	if p == nil {
		return
	}
	if y, err := p.YAML(); err != nil {
		b.lack("Lab", "profile", "lab/profile.yaml", err)
	} else {
		b.add(bugreport.Part{Section: "Lab", Title: "Profile with all settings in force", Path: "lab/profile.yaml", Content: y})
	}
	dctx, cancel := context.WithTimeout(ctx, partTimeout)
	defer cancel()
	b.findings = doctor.Doctor{}.Examine(dctx, e, connectErr, NeedsOf(p))
	t := bugreport.Table{Title: "Machine", Head: []string{"REQUIREMENT", "STATE", "FOUND"}}
	for _, f := range b.findings {
		found := f.Found
		if f.Mend != "" {
			found += "; mend: " + f.Mend
		}
		t.Rows = append(t.Rows, bugreport.Row{Cells: []string{f.Name, string(f.State), found}, Bad: b.missing(f)})
	}
	b.report.Tables = append(b.report.Tables, t)
	b.add(jsonPart("Machine", "What the doctor found", "machine/doctor.json", b.findings))
}

// missing tells whether a finding is wrong: a lab that is there has its port and its share of the machine already.
func (b *bugReporter) missing(f doctor.Finding) bool {
	return f.State == doctor.Missing && (b.lab == nil || !f.Spent)
}

func (b *bugReporter) aboutLab() [][2]string {
	l, c := b.lab, b.lab.Cluster
	state := "made"
	if b.half {
		state = "half made"
	}
	about := [][2]string{{"Lab", state + ", " + fmt.Sprintf("%d nodes", len(l.Nodes)) + ", since " + c.Created.UTC().Format(time.RFC3339)}}
	if p := l.Profile; p != nil {
		about = append(about, [2]string{"Profile", fmt.Sprintf("%s (mode %s)", p.Metadata.Name, p.Mode())})
	}
	if l.MadeBy != "" {
		about = append(about, [2]string{"Set up last by lab", l.MadeBy})
	}
	return append(about, [2]string{"Node image", image.Short(c.Labels[cluster.LabelBase])})
}
