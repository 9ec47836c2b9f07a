package labs

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	authv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"

	"wirelab.dev/wirelab/internal/settings"
	"wirelab.dev/wirelab/labs/demo"
	"wirelab.dev/wirelab/profiles"
)

// oldestKernel is the first that runs wirelab's programs; one before 6.6 lacks tcx, which agents do without.
const oldestKernel = "5.14"

// reportPatience is for what kubelets report late: that a network has gone, and that images have come, which they list each
// half minute and report with the node's status up to ten seconds after.
const reportPatience = 45 * time.Second

// mostImages is how many images a kubelet reports at most, so that of a node with as many no absence is known.
const mostImages = 50

// preflight looks for what is in the way of installing, and changes nothing.
type preflight struct {
	client   kubernetes.Interface
	profile  *profiles.Profile
	images   []string // that nodes have to have
	patience time.Duration
	nodes    []corev1.Node // set by run
	ours     bool          // set by run: agents are there already
}

// run fails with a sentence for each thing in the way. What passes by itself is given a while.
func (f *preflight) run(ctx context.Context, say func(string)) error {
	if err := mayDoAll(ctx, f.client); err != nil {
		return err
	}
	if err := noLab(ctx, f.client, "lab up changes it"); err != nil {
		return err
	}
	deadline := time.Now().Add(cmp.Or(f.patience, reportPatience))
	for said := ""; ; {
		stays, passes, err := f.look(ctx)
		if err != nil {
			return err
		}
		if len(stays)+len(passes) == 0 {
			return nil
		}
		if len(stays) > 0 || time.Now().After(deadline) {
			return fmt.Errorf("%w: %s", ErrUnfit, strings.Join(append(stays, passes...), "; "))
		}
		if passes[0] != said {
			said = passes[0]
			say(said)
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

// look finds what is in the way: what stays so, and what kubelets may only not have reported yet.
func (f *preflight) look(ctx context.Context) (stays, passes []string, err error) {
	nodes, err := f.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, nil, fmt.Errorf("list nodes: %w", err)
	}
	f.nodes = nodes.Items
	if len(f.nodes) == 0 {
		stays = append(stays, "it has no nodes")
	}
	daemons, err := f.client.AppsV1().DaemonSets("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, nil, fmt.Errorf("list DaemonSets: %w", err)
	}
	proxy := false
	f.ours = false
	for _, d := range daemons.Items {
		switch {
		case d.Namespace == SystemNamespace && d.Name == agentName:
			f.ours = true
		case d.Namespace == SystemNamespace && d.Name == "kube-proxy":
			proxy = true
		case writesCNI(d.Spec.Template.Spec):
			stays = append(stays, fmt.Sprintf("DaemonSet %s/%s brings a network of its own: uninstall that, and remove what it left in /etc/cni/net.d of the nodes", d.Namespace, d.Name))
		}
	}
	stays = append(stays, f.kubeProxy(proxy)...)
	for _, n := range f.nodes {
		stays = append(stays, f.node(n)...)
		if !f.ours && len(stays) == 0 && isReady(n) {
			passes = append(passes, fmt.Sprintf("node %s is Ready, so it has a network already: remove it, and what it left in /etc/cni/net.d", n.Name))
		}
	}
	if missing := f.withoutImages(); missing != "" {
		passes = append(passes, missing)
	}
	installed, err := f.settled(ctx)
	if err != nil {
		return nil, nil, err
	}
	more, err := f.taken(ctx)
	return slices.Concat(stays, installed, more), passes, err
}

// settled is what would have to change of a network that is there already, and cannot.
func (f *preflight) settled(ctx context.Context) ([]string, error) {
	m, err := f.client.CoreV1().ConfigMaps(SystemNamespace).Get(ctx, configName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ask what is installed: %w", err)
	}
	var values map[string]any
	if err := yaml.Unmarshal([]byte(m.Data[configFile]), &values); err != nil {
		return nil, fmt.Errorf("read what is installed, in ConfigMap %s: %w", configName, err)
	}
	is := *f.profile
	is.Network.Take(values)
	fixed, because := fixedAmong(profiles.Diff(&is, f.profile))
	if len(fixed) == 0 {
		return nil, nil
	}
	return []string{fmt.Sprintf("the network that is installed cannot change %s while it is there (%s): leave that as it is, or take the network away first with lab uninstall", changed(fixed), because)}, nil
}

// kubeProxy is what is wrong with kube-proxy being there or not.
func (f *preflight) kubeProxy(there bool) []string {
	replaced := f.profile.Network.KubeProxyReplacement
	// k3s has it in its own binary.
	inside := slices.ContainsFunc(f.nodes, func(n corev1.Node) bool { return strings.Contains(n.Status.NodeInfo.KubeletVersion, "+k3s") })
	switch {
	case there && replaced:
		return []string{fmt.Sprintf("it has kube-proxy, which profile %s replaces: kubectl -n kube-system delete daemonset kube-proxy, then kube-proxy --cleanup on each node, or take profile kubeproxy", f.profile.Metadata.Name)}
	case !there && !replaced && !inside:
		return []string{fmt.Sprintf("it has no kube-proxy, which profile %s needs: take profile ebpf or kubeproxy-replacement, or kubeadm init phase addon kube-proxy", f.profile.Metadata.Name)}
	}
	return nil
}

// node is what is wrong with a node.
func (f *preflight) node(n corev1.Node) (out []string) {
	info := n.Status.NodeInfo
	if info.OperatingSystem != "linux" || info.Architecture != runtime.GOARCH {
		out = append(out, fmt.Sprintf("node %s is %s/%s, and the images of this lab are linux/%s: take the lab of that platform", n.Name, info.OperatingSystem, info.Architecture, runtime.GOARCH))
	}
	if v, err := version.ParseGeneric(info.KernelVersion); err != nil {
		out = append(out, fmt.Sprintf("node %s says kernel %q, which is no version: wirelab needs %s", n.Name, info.KernelVersion, oldestKernel))
	} else if v.LessThan(version.MustParseGeneric(oldestKernel)) {
		out = append(out, fmt.Sprintf("node %s has kernel %s: wirelab needs %s, so boot a newer one", n.Name, info.KernelVersion, oldestKernel))
	}
	if f.profile.Network.IPAM.Mode == settings.IPAMKubernetes {
		out = append(out, f.podCIDR(n)...)
		return out
	}
	for _, pool := range f.profile.Network.IPAM.Operator.Pool() {
		if a, ok := internalIP(n); ok && pool.Contains(a) {
			out = append(out, fmt.Sprintf("node %s is %s, which is in the pods' pool %s: --set network.ipam.operator.clusterPoolIPv4PodCIDRList gives another", n.Name, a, pool))
		}
	}
	return out
}

// podCIDR is what is wrong with the podCIDR that Kubernetes gave a node.
func (f *preflight) podCIDR(n corev1.Node) []string {
	i := slices.IndexFunc(n.Spec.PodCIDRs, func(s string) bool { p, err := netip.ParsePrefix(s); return err == nil && p.Addr().Is4() })
	if i < 0 {
		return []string{fmt.Sprintf("node %s has no IPv4 podCIDR: give the cluster one with kubeadm's --pod-network-cidr, or take --set network.ipam.mode=cluster-pool", n.Name)}
	}
	cidr := netip.MustParsePrefix(n.Spec.PodCIDRs[i])
	native := f.profile.Network.IPv4NativeRoutingCIDR
	if native.IsValid() && (!native.Contains(cidr.Addr()) || native.Bits() > cidr.Bits()) {
		return []string{fmt.Sprintf("node %s has podCIDR %s, outside of network.ipv4NativeRoutingCIDR %s: set that to a prefix that has all podCIDRs", n.Name, cidr, native)}
	}
	return nil
}

// taken are addresses, ports and names that something else has.
func (f *preflight) taken(ctx context.Context) (out []string, err error) {
	if f.profile.Demo.Enabled {
		foreign, err := demo.Foreign(ctx, f.client)
		if err != nil {
			return nil, err
		}
		for _, o := range foreign {
			out = append(out, o+" is not lab's, and the demo's has that name: rename it, or --set demo.enabled=false")
		}
	}
	services, err := f.client.CoreV1().Services("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list Services: %w", err)
	}
	for _, s := range services.Items {
		if f.profile.Demo.Enabled && (s.Namespace != demo.Namespace || s.Name != demo.Name) {
			for _, p := range s.Spec.Ports {
				if int(p.NodePort) == f.profile.Demo.NodePort {
					out = append(out, fmt.Sprintf("Service %s/%s has node port %d, which the demo asks for: --set demo.nodePort gives another", s.Namespace, s.Name, p.NodePort))
				}
			}
		}
		a, err := netip.ParseAddr(s.Spec.ClusterIP)
		for _, pool := range f.profile.Network.IPAM.Operator.Pool() {
			if err == nil && f.profile.Network.IPAM.Mode == settings.IPAMClusterPool && pool.Contains(a) {
				out = append(out, fmt.Sprintf("Service %s/%s is %s, which is in the pods' pool %s: --set network.ipam.operator.clusterPoolIPv4PodCIDRList gives another", s.Namespace, s.Name, a, pool))
			}
		}
	}
	return out, nil
}

// writesCNI tells whether a pod reaches where a node's container runtime looks for its network.
func writesCNI(s corev1.PodSpec) bool {
	return slices.ContainsFunc(s.Volumes, func(v corev1.Volume) bool {
		return v.HostPath != nil && (strings.HasSuffix(strings.TrimRight(v.HostPath.Path, "/"), "/cni/net.d") || strings.TrimRight(v.HostPath.Path, "/") == "/etc/cni")
	})
}

func isReady(n corev1.Node) bool {
	return slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

func internalIP(n corev1.Node) (netip.Addr, bool) {
	for _, a := range n.Status.Addresses {
		if ip, err := netip.ParseAddr(a.Address); err == nil && ip.Is4() && a.Type == corev1.NodeInternalIP {
			return ip, true
		}
	}
	return netip.Addr{}, false
}

// withoutImages is a sentence on nodes that lack images; empty where none does.
func (f *preflight) withoutImages() string {
	var lack []string
	for _, n := range f.nodes {
		if missing := missingImages(n, f.images); len(missing) > 0 {
			lack = append(lack, fmt.Sprintf("node %s has no image %s", n.Name, strings.Join(missing, ", ")))
		}
	}
	if len(lack) == 0 {
		return ""
	}
	return fmt.Sprintf("%s: lab install --images DIR %s writes them, and on the node ctr -n k8s.io images import FILE takes each in", firstOf(lack), f.profile.Metadata.Name)
}

// firstOf is the first of several nodes, or what is said of it, and how many such nodes there are.
func firstOf(nodes []string) string {
	if len(nodes) == 1 {
		return nodes[0]
	}
	return fmt.Sprintf("%s (the first of %d such nodes)", nodes[0], len(nodes))
}

// missingImages are those of images that a node does not have, as far as its kubelet tells.
func missingImages(n corev1.Node, images []string) (out []string) {
	if len(n.Status.Images) >= mostImages {
		return nil
	}
	for _, want := range images {
		has := func(i corev1.ContainerImage) bool {
			return slices.Contains(i.Names, want) || slices.Contains(i.Names, "docker.io/"+want)
		}
		if !slices.ContainsFunc(n.Status.Images, has) {
			out = append(out, want)
		}
	}
	return out
}

// answers tells whether the API server can be reached.
func answers(ctx context.Context, c kubernetes.Interface) error {
	_, err := discovery.ToServerVersionInterfaceWithContext(c.Discovery()).ServerVersionWithContext(ctx)
	if err != nil {
		return fmt.Errorf("the API server does not answer; start the cluster, or name its context anew: %w", err)
	}
	return nil
}

// mayDoAll wants an administrator's rights: the chart defines resources, and roles that may do what only who has the right
// may grant.
func mayDoAll(ctx context.Context, c kubernetes.Interface) error {
	r, err := c.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authv1.SelfSubjectAccessReview{
		Spec: authv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authv1.ResourceAttributes{Verb: "*", Group: "*", Resource: "*"}},
	}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("ask what this user may do: %w", err)
	}
	if !r.Status.Allowed {
		return fmt.Errorf("%w: this user may not do everything in it, as is needed to define resources and grant roles: take the context of an administrator", ErrUnfit)
	}
	return nil
}

// noLab refuses a cluster that lab up made.
func noLab(ctx context.Context, c kubernetes.Interface, instead string) error {
	_, err := c.CoreV1().ConfigMaps(SystemNamespace).Get(ctx, recordName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("look whether the cluster is a lab: %w", err)
	}
	return fmt.Errorf("%w: it is a lab that lab up made: %s", ErrUnfit, instead)
}
