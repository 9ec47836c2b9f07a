package labs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"wirelab.dev/wirelab/internal/cluster"
	"wirelab.dev/wirelab/internal/kube"
	"wirelab.dev/wirelab/internal/release"
	"wirelab.dev/wirelab/profiles"
	"wirelab.dev/wirelab/verify"
)

const stepPreflight = "preflight"

// ErrUnfit means that a cluster cannot take the network as it is.
var ErrUnfit = errors.New("the cluster cannot take it")

// InstallOptions say which cluster that is there gets the network of which profile.
type InstallOptions struct {
	Profile *profiles.Profile
	// Context is the cluster's in Kubeconfig; Kubeconfig empty: the user's.
	Context, Kubeconfig string
	// Retain leaves what was installed when a step fails.
	Retain bool
	// SkipVerify leaves out the checks.
	SkipVerify bool
	// ReadyTimeout is for the step that waits; 0: three minutes.
	ReadyTimeout time.Duration
	Progress     Progress // may be nil
}

// InstallResult is what [Install] did. It is of use also when Install failed.
type InstallResult struct {
	Context string `json:"context"`
	Profile string `json:"profile"`
	// Change is what became of the chart's release: "installed", "upgraded", "unchanged"; empty when it was not got to.
	Change release.Change `json:"change,omitempty"`
	Steps  []StepResult   `json:"steps"`
	Report *verify.Report `json:"report,omitempty"` // of the checks, where they could run
}

// Install puts the network and the demo of a profile on a cluster that is there, of whatever made it, once everything that
// would be in the way has been looked for; then the error wraps [ErrUnfit] and nothing was changed. When a first install
// fails, or ctx ends before the cluster is ready, it is taken away again unless Retain is set. The checks run last, where nodes
// are containers of this machine; one that does not pass is an error, and undoes nothing. The error
// wraps [ErrBusy] while another command of this machine installs on the cluster or uninstalls from it.
func Install(ctx context.Context, o InstallOptions) (*InstallResult, error) {
	r := &InstallResult{Context: o.Context, Profile: o.Profile.Metadata.Name}
	if err := Check(o.Profile); err != nil {
		return r, err
	}
	if o.Progress == nil {
		o.Progress = func(Event) {}
	}
	o.ReadyTimeout = cmp.Or(o.ReadyTimeout, readyTimeout)
	c, err := clientOf(o.Kubeconfig, o.Context)
	if err != nil {
		return r, err
	}
	unlock, err := lockCluster(c, o.Context)
	if err != nil {
		return r, err
	}
	defer unlock()
	i := &installer{InstallOptions: o, kube: c, result: r}
	r.Steps, err = run(ctx, i.steps(), o.Retain, o.Progress, nil)
	return r, err
}

// ChartValues are what [Install] would give the chart for a profile on the cluster of a context, which is asked where nodes
// reach its API server and is left as it is.
func ChartValues(ctx context.Context, p *profiles.Profile, kubeconfig, name string) (map[string]any, error) {
	if err := Check(p); err != nil {
		return nil, err
	}
	c, err := clientOf(kubeconfig, name)
	if err != nil {
		return nil, err
	}
	if err := answers(ctx, c); err != nil {
		return nil, err
	}
	in, err := installOn(ctx, c)
	if err != nil {
		return nil, err
	}
	i, err := buildPrograms(p)
	if err != nil {
		return nil, err
	}
	spec, err := releaseSpec(p, i, in)
	return spec.Values, err
}

// installer is one run of [Install].
type installer struct {
	InstallOptions
	result   *InstallResult
	kube     *kube.Client
	programs programs
	nodes    []corev1.Node
	ours     bool // agents were there before this run
	first    bool // this run is the first to put a release there: it is its to undo
}

func (i *installer) steps() []step {
	all := []step{
		{name: stepPreflight, do: i.examine},
		{name: stepRelease, after: []string{stepPreflight}, do: i.install, undo: i.uninstall},
		{name: stepDemo, after: []string{stepRelease}, do: func(ctx context.Context, _ func(string)) (string, error) {
			if !i.Profile.Demo.Enabled {
				return "none", removeDemo(ctx, i.kube)
			}
			return deployDemo(ctx, i.kube, i.Profile, i.programs)
		}},
		{name: stepReady, after: []string{stepDemo}, do: i.awaitReady, final: true},
	}
	if !i.SkipVerify {
		all = append(all, step{name: stepVerify, after: []string{stepReady}, do: i.verify})
	}
	return all
}

func (i *installer) examine(ctx context.Context, say func(string)) (note string, err error) {
	if err := answers(ctx, i.kube); err != nil {
		return "", err
	}
	if i.programs, err = buildPrograms(i.Profile); err != nil {
		return "", err
	}
	f := &preflight{client: i.kube, profile: i.Profile, images: i.programs.refs()}
	if err := f.run(ctx, say); err != nil {
		return "", err
	}
	say("trying the nodes' kernels")
	k := kernelProbe{client: i.kube, profile: i.Profile, image: i.programs.agent.Ref(), patience: probePatience}
	if err := k.run(ctx, f.nodes); err != nil {
		return "", err
	}
	i.nodes, i.ours = f.nodes, f.ours
	return fmt.Sprintf("%d nodes, nothing in the way", len(f.nodes)), nil
}

func (i *installer) install(ctx context.Context, _ func(string)) (string, error) {
	in, err := installOn(ctx, i.kube)
	if err != nil {
		return "", err
	}
	there, err := release.Exists(i.kube.Config, SystemNamespace, releaseName)
	if err != nil {
		return "", err
	}
	i.first = !i.ours && !there
	// Helm goes on behind a context that has ended. It is waited for, so that what undoes this finds all that was made.
	i.result.Change, err = ensureRelease(context.WithoutCancel(ctx), i.kube, i.Profile, i.programs, in)
	return fmt.Sprintf("%s, API server %s", i.result.Change, net.JoinHostPort(in.APIServerHost, strconv.Itoa(in.APIServerPort))), err
}

func (i *installer) uninstall(ctx context.Context) error {
	if !i.first {
		return nil
	}
	_, err := uninstall(ctx, i.kube, func(string) {})
	return err
}

func (i *installer) awaitReady(ctx context.Context, say func(string)) (string, error) {
	l := &Lab{Name: i.Context, Profile: i.Profile, Kube: i.kube}
	for _, n := range i.nodes {
		l.Nodes = append(l.Nodes, cluster.Node{Name: n.Name, Running: true})
	}
	tell := waitingFor(say)
	wait := func(wants ...kube.Want) error { return i.kube.WaitFor(ctx, i.ReadyTimeout, tell, wants...) }
	if err := wait(l.agentReady()); err != nil {
		return "", err
	}
	replaced := 0 // pods that ran while there was no network, such as those that an earlier uninstall has left
	if err := wait(l.rescued(i.programs, &replaced)); err != nil {
		return "", err
	}
	wants := slices.Concat(l.networkWants(), l.nodeWants(), l.workloadWants())
	note := fmt.Sprintf("%d nodes, agent", len(i.nodes))
	// DNS is where kubeadm and k3s put it. A cluster may have another, or none.
	_, err := i.kube.AppsV1().Deployments(SystemNamespace).Get(ctx, coreDNSName, metav1.GetOptions{})
	switch {
	case err == nil:
		wants, note = append(wants, l.coreDNSReady()), note+", CoreDNS"
	case !apierrors.IsNotFound(err):
		return "", fmt.Errorf("look for CoreDNS: %w", err)
	}
	if err := wait(wants...); err != nil {
		return "", err
	}
	if err := wait(l.nodesReached()); err != nil {
		return "", err
	}
	return note + demoNote(i.Profile) + replacedNote(replaced), nil
}

// clientOf connects to the cluster of a context. A file that is not named is the user's.
func clientOf(file, name string) (*kube.Client, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = file
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: name})
	raw, err := loader.RawConfig()
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig: %w", err)
	}
	if raw.Contexts[name] == nil {
		there := strings.Join(slices.Sorted(maps.Keys(raw.Contexts)), ", ")
		return nil, fmt.Errorf("no context %q in the kubeconfig %s: there are %s", name, strings.Join(rules.GetLoadingPrecedence(), ", "), cmp.Or(there, "none"))
	}
	cfg, err := loader.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("context %s: %w", name, err)
	}
	return kube.NewForConfig(cfg)
}

// installOn is what the chart has to know of a cluster that is there.
func installOn(ctx context.Context, c kubernetes.Interface) (profiles.Install, error) {
	host, port, err := apiServerFor(ctx, c)
	return profiles.Install{APIServerHost: host, APIServerPort: port}, err
}

// apiServerFor is where nodes reach the API server before Services work: what kubeadm told them, else the first endpoint
// of Service kubernetes.
func apiServerFor(ctx context.Context, c kubernetes.Interface) (string, int, error) {
	m, err := c.CoreV1().ConfigMaps(metav1.NamespacePublic).Get(ctx, "cluster-info", metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return "", 0, fmt.Errorf("ask where nodes reach the API server: %w", err)
	}
	if err == nil {
		if host, port, ok := serverIn(m.Data["kubeconfig"]); ok {
			return host, port, nil
		}
	}
	slices, err := c.DiscoveryV1().EndpointSlices(metav1.NamespaceDefault).List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=kubernetes"})
	if err != nil {
		return "", 0, fmt.Errorf("ask where nodes reach the API server: %w", err)
	}
	for _, s := range slices.Items {
		for _, e := range s.Endpoints {
			if len(e.Addresses) > 0 && len(s.Ports) > 0 && s.Ports[0].Port != nil {
				return e.Addresses[0], int(*s.Ports[0].Port), nil
			}
		}
	}
	return "", 0, errors.New("the cluster does not say where its nodes reach the API server: Service default/kubernetes has no endpoint")
}

// serverIn is the server that a kubeconfig names.
func serverIn(kubeconfig string) (host string, port int, ok bool) {
	cfg, err := clientcmd.Load([]byte(kubeconfig))
	if err != nil {
		return "", 0, false
	}
	for _, cl := range cfg.Clusters {
		u, err := url.Parse(cl.Server)
		if err != nil || u.Hostname() == "" {
			continue
		}
		if port, err = strconv.Atoi(u.Port()); err != nil {
			port = 443
		}
		return u.Hostname(), port, true
	}
	return "", 0, false
}
