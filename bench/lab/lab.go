// Package lab measures a lab that is up: pod to pod and through a Service, on one node and across two, against
// node to node in the same run, and what agents and kube-proxy take of the nodes.
package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wirelab.dev/wirelab/bench"
	"wirelab.dev/wirelab/bench/workload"
	"wirelab.dev/wirelab/internal/cluster"
	"wirelab.dev/wirelab/internal/interrupt"
	"wirelab.dev/wirelab/internal/kube"
)

// Config says what to measure.
type Config struct {
	// Mode is the lab's.
	Mode string
	Kube *kube.Client
	// Nodes are the lab's; with one of them, nothing across nodes is measured.
	Nodes []cluster.Node
	// Image is the nettool image as the nodes have it.
	Image string
	// Rounds is how often every path is measured, Idle how long the agents' CPU time is watched.
	Rounds int
	Idle   time.Duration
	// Progress, if set, is told what is done, and how far.
	Progress func(what string, done, of int)
}

// readyWithin is how long the pods may take to run.
const readyWithin = 60 * time.Second

// Run measures. What it makes in the lab it removes, and first what an interrupted run left.
func Run(ctx context.Context, cfg Config) (report *bench.Report, err error) {
	if len(cfg.Nodes) < 2 {
		return nil, errors.New("the lab has one node: measuring compares with the way between two, so bring a lab with a worker up")
	}
	r := run{Config: cfg, cpu: runtime.NumCPU() - 1}
	if err := r.remove(ctx); err != nil {
		return nil, err
	}
	defer func() {
		after, cancel := interrupt.Cleanup(ctx, readyWithin)
		defer cancel()
		err = errors.Join(err, r.remove(after))
	}()
	report = &bench.Report{Began: time.Now(), Machine: bench.Machine(r.cpu)}
	r.tell("making pods", 0, 1)
	if err := r.make(ctx); err != nil {
		return nil, err
	}
	runner := bench.Runner{Rounds: cfg.Rounds, Random: bench.Now(), CPU: r.cpu, Progress: r.tell}
	for _, kind := range workload.Kinds() {
		samples, err := runner.Run(ctx, r.suite(ctx, kind))
		if err != nil {
			return nil, err
		}
		report.Samples = append(report.Samples, samples...)
	}
	report.AddControls(controls()...)
	report.AddComparisons(goals(cfg.Mode)...)
	r.tell("watching idle agents", 0, 1)
	rows, err := usage(ctx, cfg)
	report.Rows = append(report.Rows, rows...)
	report.Took = time.Since(report.Began)
	return report, err
}

type run struct {
	Config
	cpu   int
	addrs map[role]string // where servers are
	vips  map[role]string // where their Services are
}

func (r *run) tell(what string, done, of int) {
	if r.Progress != nil {
		r.Progress(what, done, of)
	}
}

// node is where a role's pod is.
func (r *run) node(of role) string {
	// The workers, where there are two: the control plane has other work.
	here, there := r.Nodes[len(r.Nodes)-1], r.Nodes[len(r.Nodes)-2]
	if of.away() {
		return there.Name
	}
	return here.Name
}

func (r *run) make(ctx context.Context) error {
	r.addrs, r.vips = map[role]string{}, map[role]string{}
	pods, services := r.Kube.CoreV1().Pods(namespace), r.Kube.CoreV1().Services(namespace)
	for _, of := range []role{near, far} {
		s, err := services.Create(ctx, of.service(), metav1.CreateOptions{})
		if err != nil {
			return fmt.Errorf("make Service %s: %w", of.pod(), err)
		}
		r.vips[of] = s.Spec.ClusterIP
	}
	var wants []kube.Want
	for _, of := range roles() {
		if _, err := pods.Create(ctx, of.object(r.node(of), r.Image, r.cpu), metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("make pod %s: %w", of.pod(), err)
		}
		wants = append(wants, r.Kube.PodReady("pod "+of.pod(), namespace, of.pod()))
	}
	if err := r.Kube.WaitFor(ctx, readyWithin, nil, wants...); err != nil {
		return err
	}
	for _, of := range roles() {
		p, err := pods.Get(ctx, of.pod(), metav1.GetOptions{})
		if err != nil {
			return fmt.Errorf("get pod %s: %w", of.pod(), err)
		}
		r.addrs[of] = p.Status.PodIP
	}
	return r.reach(ctx)
}

// reach waits until every path carries an operation: a Service is in force a moment after its pod is ready.
func (r *run) reach(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	for _, p := range r.paths() {
		for {
			_, err := r.measure(ctx, p, workload.TCPCRR, workload.Window{WarmUp: time.Millisecond, Length: time.Millisecond})
			if err == nil {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("try %s: %w", p.name, err)
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
	return nil
}

// remove removes what is labelled, and waits until it is gone.
func (r *run) remove(ctx context.Context) error {
	pods, services := r.Kube.CoreV1().Pods(namespace), r.Kube.CoreV1().Services(namespace)
	for _, of := range []role{near, far} {
		if err := services.Delete(ctx, of.pod(), metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("remove Service %s: %w", of.pod(), err)
		}
	}
	at := int64(0)
	if err := pods.DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: &at}, metav1.ListOptions{LabelSelector: label}); err != nil {
		return fmt.Errorf("remove pods of a measurement: %w", err)
	}
	for {
		left, err := pods.List(ctx, metav1.ListOptions{LabelSelector: label})
		if err != nil {
			return fmt.Errorf("remove pods of a measurement: %w", err)
		}
		if len(left.Items) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until the pods of a measurement are gone: %w", context.Cause(ctx))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// measure takes one sample by a command in the client's pod.
func (r *run) measure(ctx context.Context, p path, kind workload.Kind, w workload.Window) (result workload.Result, err error) {
	cmd := []string{
		nettool, "bench", "run", string(kind), "--to=" + p.to, fmt.Sprintf("--cpu=%d", r.cpu),
		"--warm-up=" + w.WarmUp.String(), "--window=" + w.Length.String(),
	}
	out, err := r.Kube.Exec(ctx, kube.PodRef{Namespace: namespace, Name: p.from.pod()}, cmd...)
	if err == nil {
		err = out.Err(cmd...)
	}
	if err != nil {
		return result, err
	}
	if err := json.Unmarshal(out.Stdout, &result); err != nil {
		return result, fmt.Errorf("read nettool's result: %w", err)
	}
	return result, nil
}
