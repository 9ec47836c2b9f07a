package labs

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/bugreport"
	"wirelab.dev/wirelab/internal/cluster"
	"wirelab.dev/wirelab/internal/docker"
	"wirelab.dev/wirelab/internal/doctor"
	"wirelab.dev/wirelab/internal/kube"
	"wirelab.dev/wirelab/profiles"
	"wirelab.dev/wirelab/verify"
)

// BugReportOptions say what a report has beside what the lab's parts answer.
type BugReportOptions struct {
	// Lists are what agents are asked for.
	Lists []AgentList
	// Status lays out the lab's status for people.
	Status func(*Status) string
	// Verify runs the checks once everything else is gathered, and tells Progress, which may be nil.
	Verify   bool
	Progress func(verify.Progress)
	// Checks are the results of a run that there was; nil where there was none.
	Checks *verify.Report
	// Failed is what went wrong with the lab before; nil where nothing did.
	Failed error
	// Profile is that of a lab which is being made; nil: the lab tells.
	Profile *profiles.Profile
	// Steps are those of a lab that is being made.
	Steps []StepResult
}

// AgentList is something that every agent is asked for.
type AgentList struct {
	Title string
	Args  []string
	// Of says whether labs of a profile have it; nil: all do.
	Of func(*profiles.Profile) bool
	// Show lays out what the agent answered to Args with -o json.
	Show func(answer []byte) (string, error)
}

// How long a report may take: to gather everything, one thing of it, and to run the checks.
const (
	gatherTimeout = 3 * time.Minute
	partTimeout   = 30 * time.Second
	checksTimeout = 5 * time.Minute
)

// BugReport gathers what there is to know about a lab, be it half made or partly away: what cannot be had is in the report
// with the reason. An error, which wraps [ErrNotFound] or [ErrTaken], means that there is no lab to tell of.
func BugReport(ctx context.Context, name string, o BugReportOptions) (*bugreport.Report, error) {
	b := &bugReporter{BugReportOptions: o, report: &bugreport.Report{Lab: cmp.Or(name, "unknown")}, agents: map[string]*api.Status{}}
	gctx, cancel := context.WithTimeoutCause(ctx, gatherTimeout, fmt.Errorf("gathering the report did not end within %s", gatherTimeout))
	defer cancel()
	e, err := docker.Connect(gctx)
	if err != nil {
		b.lack("Lab", "all of the lab", "lab", err)
	} else {
		defer e.Close()
		err := b.find(gctx, e, name)
		if err != nil && o.Profile == nil && (errors.Is(err, ErrNotFound) || errors.Is(err, ErrTaken)) {
			return nil, err
		}
		switch {
		case errors.Is(err, ErrNotFound):
			b.report.About = [][2]string{{"Lab", "not made, or gone"}}
		case err != nil:
			b.lack("Lab", "all of the lab", "lab", err)
		}
	}
	b.machine(gctx, e, err)
	if b.lab != nil {
		b.gather(gctx)
	}
	b.checks(ctx)
	b.wrong()
	return b.report, ctx.Err()
}

// bugReporter gathers one report.
type bugReporter struct {
	BugReportOptions
	report   *bugreport.Report
	lab      *Lab // nil where it was not found; Kube is nil where the API server does not answer, and why is in away
	half     bool // it is half made
	away     error
	status   *Status // nil where it is not known
	findings []doctor.Finding

	mu     sync.Mutex
	agents map[string]*api.Status // what agents say of themselves, by node
}

// lack says of something that it is not there.
func (b *bugReporter) lack(section, title, path string, why error) {
	b.report.Parts = append(b.report.Parts, bugreport.Part{Section: section, Title: title, Path: path, Lacking: oneSentence(why)})
}

func (b *bugReporter) add(parts ...bugreport.Part) { b.report.Parts = append(b.report.Parts, parts...) }

// oneSentence is an error in one line.
func oneSentence(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// find finds the lab, as far as it is there, and how it is reached.
func (b *bugReporter) find(ctx context.Context, e *docker.Engine, name string) error {
	cs := cluster.New(e, nil)
	c, err := findLab(ctx, cs, name)
	if err != nil {
		return err
	}
	complete, err := c.Complete(ctx)
	if err != nil {
		return err
	}
	b.half = !complete
	b.report.Lab = c.Name
	b.lab = &Lab{Name: c.Name, Profile: b.Profile, Nodes: c.KubeNodes(), Cluster: c, Engine: e}
	b.lab.Kube, b.away = b.connect(ctx, cs, c)
	if b.lab.Kube != nil && b.lab.Profile == nil && !b.half {
		b.lab.Profile, b.lab.MadeBy, err = readRecord(ctx, b.lab.Kube, c)
		if err != nil {
			b.lack("Lab", "the record of the profile in force", "lab/record", err)
		}
	}
	if b.lab.Profile == nil {
		b.lab.Profile, err = madeFrom(c)
		if err != nil {
			b.lack("Lab", "profile", "lab/profile", err)
		}
	}
	return nil
}

// connect gives a client for an API server that answers.
func (b *bugReporter) connect(ctx context.Context, cs *cluster.Clusters, c *cluster.Cluster) (*kube.Client, error) {
	if why := unreachable(c); why != "" {
		return nil, fmt.Errorf("the API server is away: %s", why)
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	cfg, err := cs.KubeConfig(ctx, c.Name)
	if err != nil {
		return nil, fmt.Errorf("the API server cannot be asked: %w", err)
	}
	k, err := kube.New(cfg)
	if err != nil {
		return nil, err
	}
	if err := k.CoreV1().RESTClient().Get().AbsPath("/version").Do(ctx).Error(); err != nil {
		return nil, fmt.Errorf("the API server does not answer: %w", err)
	}
	return k, nil
}

// gather asks the nodes and the API server, side by side.
func (b *bugReporter) gather(ctx context.Context) {
	l := b.lab
	var asks []ask
	for _, n := range l.Cluster.Nodes {
		asks = append(asks, b.nodeAsks(n)...)
	}
	if b.away != nil {
		b.lack("Kubernetes", "status of the lab, objects, events, and what of the profile has changed since the lab was made", "kubernetes", b.away)
	} else {
		secrets, err := secretValues(ctx, l.Kube)
		b.report.Secrets = secrets
		if err != nil {
			b.lack("Kubernetes", "what Secrets have, to leave it out", "kubernetes/secrets", fmt.Errorf("only what looks like a secret is left out: %w", err))
		}
		asks = append(asks, objectAsks(l.Kube)...)
		if l.Profile != nil {
			asks = append(asks, b.statusAsk())
		}
	}
	b.add(answered(ctx, asks)...)
	b.report.Tables = append([]bugreport.Table{b.nodesTable()}, b.report.Tables...)
}

func (b *bugReporter) statusAsk() ask {
	part := bugreport.Part{Section: "Lab", Title: "Status", Path: "lab/status.json"}
	return ask{part: part, do: func(ctx context.Context) ([]byte, error) {
		s, err := b.lab.Status(ctx)
		if err != nil {
			return nil, err
		}
		b.status = s
		return json.MarshalIndent(s, "", "  ")
	}, show: func([]byte) (string, error) { return b.Status(b.status), nil }}
}

func jsonPart(section, title, path string, v any) bugreport.Part {
	p := bugreport.Part{Section: section, Title: title, Path: path}
	content, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		p.Lacking = oneSentence(err)
	}
	p.Content = content
	return p
}
