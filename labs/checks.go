package labs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"strconv"

	"github.com/google/go-containerregistry/pkg/name"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wirelab.dev/wirelab/images"
	"wirelab.dev/wirelab/internal/cluster"
	"wirelab.dev/wirelab/internal/image"
	"wirelab.dev/wirelab/internal/kube"
	"wirelab.dev/wirelab/internal/version"
	"wirelab.dev/wirelab/labs/demo"
	"wirelab.dev/wirelab/profiles"
	"wirelab.dev/wirelab/verify"
	"wirelab.dev/wirelab/verify/checks"
	"wirelab.dev/wirelab/verify/field"
	"wirelab.dev/wirelab/verify/probe"
)

// Verify runs the checks that sel picks against the lab. See [verify.Run] for what its error means; progress may be nil.
// Two runs at once would take each other's pods away, so the error wraps [ErrBusy] while another command is at work on
// the lab. Nodes that lack the image the checks run from, since another version of this program made the lab, get it.
func (l *Lab) Verify(ctx context.Context, sel verify.Selection, progress func(verify.Progress)) (*verify.Report, error) {
	unlock, err := lock(ctx, l.Engine, l.Name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return l.verify(ctx, l.loadNettool, sel, false, progress)
}

// down are the nodes that do not run, and what is the matter with each and what helps.
func (l *Lab) down() map[string]string {
	down := map[string]string{}
	for _, n := range l.Nodes {
		if why := n.Down(); why != "" {
			down[n.Name] = why + ": lab up starts or resumes it"
		}
	}
	return down
}

// loadNettool gives the image that probes run from to the nodes that lack it, and returns its name.
func (l *Lab) loadNettool(ctx context.Context) (string, error) {
	nettool, err := image.Nettool(images.Payload, runtime.GOARCH)
	if err != nil {
		return "", err
	}
	return nettool.Ref(), cluster.New(l.Engine, nil).LoadImages(ctx, l.running(), []string{nettool.Ref()}, func([]string) (io.ReadCloser, error) { return nettool.Open() })
}

// checksConfig says which checks the lab is to pass, and what of it they look at.
func (l *Lab) checksConfig() verify.Config {
	cfg := verify.Config{Lab: l.Name, Kind: Claims(l.Profile)}
	cfg.Kind.Nodes = len(l.Nodes) // which a profile does not know of a cluster that is no lab
	return cfg
}

// beginVerify makes what the checks that sel picks need of the API server, ahead of them, in a lab that has seen none.
func (l *Lab) beginVerify(ctx context.Context, nettool func(context.Context) (string, error), sel verify.Selection) error {
	cfg := field.Config{Config: l.checksConfig(), Kube: l.Kube, Image: nettool}
	picked, _, err := sel.Select(checks.All(nil), cfg.Kind)
	if err != nil {
		return err
	}
	return field.Begin(ctx, cfg, verify.Needs(picked), l.nodeNames())
}

// verify runs checks. begun says whether beginVerify has prepared them.
func (l *Lab) verify(ctx context.Context, nettool func(context.Context) (string, error), sel verify.Selection, begun bool, progress func(verify.Progress)) (*verify.Report, error) {
	binary, err := nettoolBinary()
	if err != nil {
		return nil, err
	}
	p := l.Profile
	cfg := l.checksConfig()
	cfg.Progress, cfg.Down = progress, l.down()
	var say func(string)
	if progress != nil {
		say = func(step string) { progress(verify.Progress{Step: step}) }
	}
	over := telling(say, "waiting for the nodes' kubelets")
	maps.Copy(cfg.Down, l.silentKubelets(ctx, kubeletPatience))
	over()
	maps.Copy(cfg.Down, l.deafNodes(ctx, cfg.Down, readyTimeout, say))
	if t := p.Verify.Timeout.Duration; t > 0 { // for the checks: what is waited for before has bounds of its own
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, t, fmt.Errorf("the checks did not end within verify.timeout %s", t))
		defer cancel()
	}
	env := field.New(field.Config{
		Config: cfg, Kube: l.Kube, Pods: podExec{l.Kube}, Engine: l.Engine, Image: nettool, Begun: begun && len(cfg.Down) == 0, Nettool: binary,
		NativeCIDR: p.Network.IPv4NativeRoutingCIDR, ServiceCIDR: p.Cluster.ServiceSubnet, MTU: p.Network.MTU, Tunnel: tunnelOf(p), Demo: demoOf(p), LabNodes: l.labNodes, Pool: p.Pool(),
	})
	report, err := verify.Run(ctx, cfg, sel, checks.All(env), env)
	if report != nil {
		report.About = l.about(ctx)
	}
	return report, err
}

// about is what a report of the checks says of the lab besides: what is not to be had is left out.
func (l *Lab) about(ctx context.Context) map[string]string {
	about := map[string]string{"profile": l.Profile.Metadata.Name, "version": version.Version}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	node, err := l.Kube.CoreV1().Nodes().Get(ctx, l.Nodes[0].Name, metav1.GetOptions{})
	if err == nil {
		about["kernel"], about["kubernetes"] = node.Status.NodeInfo.KernelVersion, node.Status.NodeInfo.KubeletVersion
	}
	return about
}

// Claims is what decides which checks a lab of the profile is to pass.
func Claims(p *profiles.Profile) verify.Kind {
	return verify.Kind{Mode: string(p.Mode()), Settings: p.Settings(), Nodes: p.Nodes()}
}

// tunnelOf is what checks have to know of the tunnel, nil where there is none.
func tunnelOf(p *profiles.Profile) *field.Tunnel {
	protocol, port, ok := p.Network.Tunnel()
	if !ok {
		return nil
	}
	return &field.Tunnel{Tunnel: probe.Tunnel{Protocol: protocol, Port: uint16(port)}, Device: "lab_" + protocol} //nolint:gosec // a validated port
}

// demoOf is what checks have to know of the demo, nil where there is none.
func demoOf(p *profiles.Profile) *field.Demo {
	if !p.Demo.Enabled {
		return nil
	}
	return &field.Demo{
		Namespace: demo.Namespace, Service: demo.Name, Headless: demo.Headless,
		Port: uint16(p.Demo.Port), NodePort: uint16(p.Demo.NodePort), //nolint:gosec // validated ports
	}
}

// Check tells what is wrong with a profile that can be known before anything is made and that no profile can know of
// itself: whether verify.skip names checks of the lab that it would be, and whether cluster.image is an image's name. The
// error joins a [*profiles.Problem] for each.
func Check(p *profiles.Profile) error {
	var errs []error
	if _, err := name.ParseReference(p.Cluster.Image, name.WeakValidation); p.Cluster.Image != "" && err != nil {
		errs = append(errs, &profiles.Problem{Source: "profile " + p.Metadata.Name, Key: "cluster.image", Message: strconv.Quote(p.Cluster.Image) + " is not the name of an image, such as kindest/node:v1.37.0"})
	}
	if len(p.Verify.Skip) > 0 {
		if _, _, err := (verify.Selection{Skip: p.Verify.Skip}).Select(checks.All(nil), Claims(p)); err != nil {
			errs = append(errs, &profiles.Problem{Source: "profile " + p.Metadata.Name, Key: "verify.skip", Message: err.Error()})
		}
	}
	return errors.Join(errs...)
}

// podExec lets checks run commands in pods.
type podExec struct{ client *kube.Client }

func (p podExec) ExecPod(ctx context.Context, namespace, pod, container string, argv []string, stdin io.Reader, stdout, stderr io.Writer) error {
	ref := kube.PodRef{Namespace: namespace, Name: pod, Container: container}
	code, err := p.client.ExecStream(ctx, ref, kube.Streams{Stdin: stdin, Stdout: stdout, Stderr: stderr}, argv...)
	if err == nil && code != 0 {
		err = fmt.Errorf("run %q in pod %s: exit status %d", argv[0], ref, code)
	}
	return err
}
