package labs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"wirelab.dev/wirelab/internal/cluster"
	"wirelab.dev/wirelab/internal/docker"
	"wirelab.dev/wirelab/internal/doctor"
	"wirelab.dev/wirelab/internal/image"
	"wirelab.dev/wirelab/internal/interrupt"
	"wirelab.dev/wirelab/internal/kube"
	"wirelab.dev/wirelab/profiles"
	"wirelab.dev/wirelab/verify"
)

// The steps of a lab's life, in the order a person sees them.
const (
	stepDoctor  = "doctor"
	stepNode    = "node image"
	stepCluster = "cluster"
	stepImages  = "images"
	stepNodes   = "node settings"
	stepRelease = "release"
	stepDemo    = "demo"
	stepReady   = "ready"
	stepVerify  = "verify"
)

// StepNames are the names of the steps of [Up], in the order a person sees them.
func StepNames() []string {
	return []string{stepDoctor, stepNode, stepCluster, stepImages, stepNodes, stepRelease, stepDemo, stepReady, stepVerify}
}

// Up brings a lab up and verifies it. A lab that is there already converges to the profile; one whose making was
// interrupted is made anew. When a lab that this call made fails to get ready, or ctx ends before it is, everything
// made is removed again unless Retain is set. Errors wrap [ErrRequirements], [ErrTaken], [ErrFixed], [ErrBusy],
// [*kube.NotReady] or [ErrNotVerified] where that is the reason.
func Up(ctx context.Context, o UpOptions) (*UpResult, error) {
	u := &up{UpOptions: o, booted: make(chan struct{})}
	u.Name = cmp.Or(u.Name, o.Profile.Metadata.Name)
	u.ReadyTimeout = cmp.Or(u.ReadyTimeout, readyTimeout)
	if u.Progress == nil {
		u.Progress = func(Event) {}
	}
	u.result = &UpResult{Lab: u.Name, Profile: o.Profile.Metadata.Name, Context: ContextName(u.Name), Kubeconfig: u.Kubeconfig}
	if err := errors.Join(profiles.CheckName(u.Name), Check(o.Profile)); err != nil {
		return u.result, err
	}
	var err error
	u.engine, u.connectErr = docker.Connect(ctx)
	if u.engine != nil {
		defer u.engine.Close()
		unlock, err := lock(ctx, u.engine, u.Name)
		if err != nil {
			return u.result, err
		}
		defer unlock()
		if err := u.find(ctx); err != nil {
			u.failed(ctx, nil, err)
			return u.result, err
		}
	}
	u.result.Steps, err = run(ctx, u.steps(), o.Retain, u.Progress, func(steps []StepResult, err error) { u.failed(ctx, steps, err) })
	if errors.Is(err, interrupt.ErrStopped) {
		err = errors.Join(err, u.left(ctx))
	}
	return u.result, err
}

// failed tells who wants to know of a failure that was no interrupt.
func (u *up) failed(ctx context.Context, steps []StepResult, err error) {
	if u.Failed == nil || ctx.Err() != nil {
		return
	}
	u.result.Steps = steps
	u.Failed(u.result, err)
}

// leftDeadline bounds the look at what is left, which is the last thing a person waits for.
const leftDeadline = 5 * time.Second

// left says what an undoing that was stopped has left.
func (u *up) left(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leftDeadline)
	defer cancel()
	var left []string
	err := u.connectErr
	if u.clusters != nil {
		left, err = u.clusters.Leftovers(ctx, u.Name)
	}
	switch {
	case err != nil:
		return fmt.Errorf("what is left of lab %s is not known: lab down %s removes it: %w", u.Name, u.Name, err)
	case len(left) == 0:
		return nil
	}
	return fmt.Errorf("left of lab %s: %s: lab down %s removes it", u.Name, strings.Join(left, ", "), u.Name)
}

// up is one run of [Up].
type up struct {
	UpOptions
	result     *UpResult
	engine     *docker.Engine // nil when Docker could not be reached
	connectErr error
	clusters   *cluster.Clusters

	existing *cluster.Cluster // the whole lab found at the start; nil when it is to be made
	leftover bool             // half of a lab was found

	booted    chan struct{} // closed when nodes are there to stay: until then kind may make them anew
	restarted time.Time     // when this run started or resumed nodes; zero when it did not
	started   []string      // the nodes that were stopped then
	resumed   []string      // and those that were paused
	node      image.NodeImage
	programs  programs
	begun     bool // the checks are prepared

	mu   sync.Mutex
	kube *kube.Client // set once the API server answered
}

// steps reads as the lab's life. Loading images and installing the network begin as soon as nodes and API server are
// there, while kind is still at work on the rest of the cluster.
func (u *up) steps() []step {
	var removeCluster func(context.Context) error
	if u.existing == nil { // a lab that was there before is not this run's to undo
		removeCluster = u.removeCluster
	}
	all := []step{
		{name: stepDoctor, do: u.examine},
		{name: stepNode, after: []string{stepDoctor}, do: u.ensureNodeImage},
		{name: stepCluster, after: []string{stepNode}, do: u.ensureCluster, undo: removeCluster},
		{name: stepImages, after: []string{stepNode}, do: u.loadImages},
		{name: stepRelease, after: []string{stepImages}, do: u.install},
		{name: stepDemo, after: []string{stepRelease}, do: u.deployDemo},
		{name: stepNodes, after: []string{stepCluster, stepRelease}, do: u.setNodes},
		{name: stepReady, after: []string{stepCluster, stepNodes, stepDemo}, do: u.awaitReady, final: true},
	}
	if !u.SkipVerify {
		all = append(all, step{name: stepVerify, after: []string{stepReady}, do: u.verify})
	}
	return all
}

// examine runs the doctor and stops at what is missing.
func (u *up) examine(ctx context.Context, _ func(string)) (string, error) {
	p := u.Profile
	needs := NeedsOf(p)
	needs.Context, needs.Kubeconfig = ContextName(u.Name), u.Kubeconfig
	u.result.Findings = doctor.Doctor{}.Examine(ctx, u.engine, u.connectErr, needs)
	if u.engine == nil {
		return "", fmt.Errorf("%w: %w", ErrRequirements, u.connectErr)
	}
	var missing []string
	for _, f := range u.result.Findings {
		// A lab that is up has its port and its share of memory and disk already.
		if f.State == doctor.Missing && (u.existing == nil || !f.Spent) {
			missing = append(missing, fmt.Sprintf("%s: %s: %s", f.Name, f.Found, f.Mend))
		}
	}
	if len(missing) > 0 {
		return "", fmt.Errorf("%w: %s", ErrRequirements, strings.Join(missing, "; "))
	}
	return fmt.Sprintf("%d requirements met", len(u.result.Findings)), nil
}

// find looks for a cluster of the name and decides whether it can become the lab asked for.
func (u *up) find(ctx context.Context) error {
	u.clusters = cluster.New(u.engine, func(s string) {
		u.Progress(Event{Step: stepCluster, State: StepRunning, Note: s})
	})
	c, err := u.clusters.Find(ctx, u.Name)
	if err != nil {
		return err
	}
	if c == nil {
		u.leftover, err = u.clusters.HasLeftovers(ctx, u.Name)
		return err
	}
	if !c.Lab {
		return foreign(u.Name)
	}
	complete, err := c.Complete(ctx)
	if err != nil {
		return err
	}
	if !complete {
		u.leftover = true
		return nil
	}
	u.existing = c
	close(u.booted)
	if err := u.findKubeconfig(ctx, c); err != nil {
		return err
	}
	old, err := inForce(ctx, c)
	if err != nil {
		return err
	}
	u.result.Switched, err = becomes(u.Name, old, u.Profile, u.Switch)
	return err
}

// findKubeconfig finds the file that a lab that is there was given a context in last, where the caller names none.
func (u *up) findKubeconfig(ctx context.Context, c *cluster.Cluster) error {
	if u.Kubeconfig != "" {
		return nil
	}
	var err error
	u.Kubeconfig, err = kubeconfigOf(ctx, c)
	u.result.Kubeconfig = u.Kubeconfig
	return err
}

// kubeconfigOf is the file that a lab's context is in; empty: the user's kubeconfig.
func kubeconfigOf(ctx context.Context, c *cluster.Cluster) (string, error) {
	files, err := c.ExportedTo(ctx)
	if err != nil || len(files) == 0 {
		return "", err
	}
	return files[len(files)-1], nil
}

func (u *up) export() cluster.Export {
	return cluster.Export{File: u.Kubeconfig, KeepCurrent: u.KeepContext}
}

func (u *up) ensureNodeImage(ctx context.Context, say func(string)) (string, error) {
	if u.existing != nil {
		return image.Short(u.existing.Labels[cluster.LabelBase]) + " (in use)", nil
	}
	n, err := image.EnsureNodeImage(ctx, u.engine, u.Profile.Cluster.Image, say)
	if err != nil {
		return "", err
	}
	if err := image.CheckNode(ctx, u.engine, n.Ref); err != nil {
		return "", err
	}
	u.node = n
	note := fmt.Sprintf("%s (%s)", image.Short(n.Ref), n.Origin)
	if n.Note != "" {
		note += ": " + n.Note
	}
	return note, nil
}

func (u *up) ensureCluster(ctx context.Context, say func(string)) (string, error) {
	if u.existing != nil {
		note := "there already"
		if !u.existing.Running() {
			note, u.restarted = "started again", time.Now()
			for _, n := range u.existing.Down() {
				switch {
				case n.Role == cluster.RoleLoadBalancer:
				case n.Paused:
					u.resumed = append(u.resumed, n.Name)
				default:
					u.started = append(u.started, n.Name)
				}
			}
		}
		if err := u.clusters.Start(ctx, u.existing); err != nil {
			return "", err
		}
		if s := u.result.Switched; s != nil {
			note += fmt.Sprintf(", changes %s", s)
		}
		return note, u.clusters.ExportKubeConfig(ctx, u.Name, u.export())
	}
	if u.leftover {
		say("removing what an interrupted run left")
		if err := u.clusters.Delete(ctx, u.Name); err != nil {
			return "", err
		}
	}
	u.result.Created = true
	cfg, err := u.Profile.KindConfig(profiles.Target{Name: u.Name, Image: cluster.NodeTag(u.Name)})
	if err != nil {
		return "", err
	}
	labels, err := labelsOf(u.Profile)
	if err != nil {
		return "", err
	}
	engine, err := engineID(ctx, u.engine)
	if err != nil {
		return "", err
	}
	unlock, err := awaitBoot(ctx, engine, say)
	if err != nil {
		return "", err
	}
	next := sync.OnceFunc(unlock)
	defer next()
	booted := sync.OnceFunc(func() { next(); close(u.booted) })
	joining, joined := context.WithCancel(ctx)
	var signer sync.WaitGroup
	signer.Go(func() { u.signClusterInfo(joining) })
	defer signer.Wait()
	defer joined()
	err = u.clusters.Create(ctx, cluster.Spec{
		Name: u.Name, Config: cfg, Base: u.node.Ref, Labels: labels, Retain: u.Retain,
		Export: u.export(), Booted: booted,
	})
	if err != nil {
		return "", err
	}
	booted()
	return fmt.Sprintf("%d nodes", u.Profile.Nodes()), nil
}

// removeCluster undoes ensureCluster: it removes the cluster if this run began to make it.
func (u *up) removeCluster(ctx context.Context) error {
	if !u.result.Created {
		return nil
	}
	return u.clusters.Delete(ctx, u.Name)
}

func (u *up) verify(ctx context.Context, say func(string)) (string, error) {
	l, err := u.open(ctx)
	if err != nil {
		return "", err
	}
	report, err := l.verifyAsStep(ctx, u.programs, u.begun, say)
	u.result.Report = report
	if err != nil {
		return "", err
	}
	if !report.Passed() {
		return "", fmt.Errorf("%w: %s: see lab verify %s", ErrNotVerified, report.Verdict(), u.Name)
	}
	return report.Verdict(), nil
}

// verifyAsStep runs the checks that the profile does not skip, with an image that the nodes have, and says how far it is.
func (l *Lab) verifyAsStep(ctx context.Context, i programs, begun bool, say func(string)) (*verify.Report, error) {
	return l.verify(ctx, i.loaded, l.ownSelection(), begun, func(p verify.Progress) {
		if p.Total > 0 {
			say(fmt.Sprintf("%d of %d checks", p.Done, p.Total))
			return
		}
		say(p.Step)
	})
}

// ownSelection is all but what the profile skips.
func (l *Lab) ownSelection() verify.Selection { return verify.Selection{Skip: l.Profile.Verify.Skip} }

// beginVerify prepares the checks of a lab that is new, once its nodes take pods. Where that fails, they prepare themselves.
func (u *up) beginVerify(ctx context.Context, l *Lab) {
	if u.existing == nil && !u.SkipVerify && u.kube.WaitFor(ctx, u.ReadyTimeout, nil, l.nodeWants()...) == nil {
		u.begun = l.beginVerify(ctx, u.programs.loaded, l.ownSelection()) == nil
	}
}

// found is the lab's cluster, which is there.
func (u *up) found(ctx context.Context) (*cluster.Cluster, error) {
	c, err := u.clusters.Find(ctx, u.Name)
	if err == nil && c == nil {
		err = fmt.Errorf("lab %q: %w: somebody removed it", u.Name, ErrNotFound)
	}
	return c, err
}

// open gives the lab of this run as commands see it, without asking the cluster for what is known here.
func (u *up) open(ctx context.Context) (*Lab, error) {
	c, err := u.found(ctx)
	if err != nil {
		return nil, err
	}
	if u.kube == nil {
		return nil, errors.New("the API server has not been reached")
	}
	return &Lab{Name: u.Name, Profile: u.Profile, Kube: u.kube, Nodes: c.KubeNodes(), Cluster: c, Engine: u.engine}, nil
}
