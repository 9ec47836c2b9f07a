package profiles

import (
	"cmp"
	"fmt"
	"strings"

	"sigs.k8s.io/kind/pkg/apis/config/v1alpha4"
)

// Target is the kind cluster to make from a profile.
type Target struct {
	// Name is the cluster's; empty: the profile's.
	Name string
	// Image is the node image; empty: cluster.image, and if that is empty too, kind's own.
	Image string
}

// MirrorDir is where the nodes' containerd looks for mirrors when the profile has any:
// one directory a registry, with a hosts.toml in it.
const MirrorDir = "/etc/containerd/certs.d"

// KindConfig is the kind.x-k8s.io/v1alpha4 configuration, in YAML, of the cluster that
// the profile asks for. With registry mirrors its containerd reads [MirrorDir], whose
// files are the caller's work.
func (p *Profile) KindConfig(t Target) ([]byte, error) {
	t.Name, t.Image = cmp.Or(t.Name, p.Metadata.Name), cmp.Or(t.Image, p.Cluster.Image)
	config := v1alpha4.Cluster{
		TypeMeta: v1alpha4.TypeMeta{Kind: "Cluster", APIVersion: "kind.x-k8s.io/v1alpha4"},
		Name:     t.Name,
		Nodes:    p.kindNodes(t.Image),
		Networking: v1alpha4.Networking{
			IPFamily:          v1alpha4.IPv4Family,
			APIServerPort:     int32(p.Cluster.APIServerPort), //nolint:gosec // validated: 0 to 65535
			PodSubnet:         p.Cluster.PodSubnet.String(),
			ServiceSubnet:     p.Cluster.ServiceSubnet.String(),
			DisableDefaultCNI: true,
			KubeProxyMode:     v1alpha4.ProxyMode(p.Cluster.KubeProxyMode),
		},
		KubeadmConfigPatches:         p.kubeadmPatches(),
		KubeadmConfigPatchesJSON6902: hastyPatches(),
	}
	if len(p.Cluster.RegistryMirrors) > 0 {
		config.ContainerdConfigPatches = containerdPatches()
	}
	data, err := printYAML(config)
	if err != nil {
		return nil, fmt.Errorf("write the kind configuration of %s: %w", t.Name, err)
	}
	return data, nil
}

func (p *Profile) kindNodes(image string) []v1alpha4.Node {
	nodes := make([]v1alpha4.Node, 0, p.Nodes())
	for range p.Cluster.ControlPlanes {
		nodes = append(nodes, v1alpha4.Node{Role: v1alpha4.ControlPlaneRole, Image: image})
	}
	for range p.Cluster.Workers {
		nodes = append(nodes, v1alpha4.Node{Role: v1alpha4.WorkerRole, Image: image})
	}
	return nodes
}

// kubeadmPatches change what kind tells kubeadm. Since Kubernetes 1.35 the kubelet does
// not start on a host with cgroup v1 unless it is told to; with cgroup v2 the setting
// has no effect. A cluster has some twenty keys, and RSA keys take seconds to be found.
// For Kubernetes before 1.36 kind writes kubeadm's configuration in v1beta3, which has no
// other algorithm: the patch is not for that.
func (p *Profile) kubeadmPatches() []string {
	patches := []string{
		lines(
			"kind: KubeletConfiguration",
			"failCgroupV1: false",
		),
		lines(
			"apiVersion: kubeadm.k8s.io/v1beta4",
			"kind: ClusterConfiguration",
			"encryptionAlgorithm: ECDSA-P256",
		),
	}
	// In a cluster of one node kind removes the taint itself, and fails when there is none.
	if p.Cluster.RemoveControlPlaneTaint && p.Nodes() > 1 {
		patches = append(patches, lines(
			"kind: InitConfiguration",
			"nodeRegistration:",
			"  taints: []",
		))
	}
	return patches
}

// hastyPatches spare a new cluster what it would wait for. They add to lists that have entries of kind's own. v1beta3 has other
// lists, and the patches are not for that.
//
// No node joins and no pod is made before kube-controller-manager has begun. With its own 20 requests a second, of which each of
// its controllers takes some before the first of them begins, that takes five seconds; and where it asks for its lease before the
// API server lets it, it asks again after 2.0 to 4.4 s.
//
// kubeadm restarts the kubelet of the first control plane, so that it reads its certificate from the file that it keeps its newer
// ones in, in a year. A kubelet that has just started waits for up to a period before it first probes a pod
// (pkg/kubelet/prober/worker.go, run): with CoreDNS 10 s.
func hastyPatches() []v1alpha4.PatchJSON6902 {
	const add = `{"op": "add", "path": %q, "value": %s}`
	var args []string
	for _, arg := range [][2]string{{"kube-api-qps", "200"}, {"kube-api-burst", "400"}, {"leader-elect-retry-period", "1s"}} {
		args = append(args, fmt.Sprintf(add, "/controllerManager/extraArgs/-", fmt.Sprintf(`{"name": %q, "value": %q}`, arg[0], arg[1])))
	}
	patch := func(kind string, operations ...string) v1alpha4.PatchJSON6902 {
		return v1alpha4.PatchJSON6902{Group: "kubeadm.k8s.io", Version: "v1beta4", Kind: kind, Patch: "[\n  " + strings.Join(operations, ",\n  ") + "\n]\n"}
	}
	return []v1alpha4.PatchJSON6902{
		patch("ClusterConfiguration", args...),
		patch("InitConfiguration", fmt.Sprintf(add, "/skipPhases/-", `"kubelet-finalize"`)),
	}
}

// containerdPatches point containerd at MirrorDir. The section is named differently in
// the two versions of its configuration; kind applies the one that fits the image.
func containerdPatches() []string {
	return []string{
		lines(
			"version = 3",
			`[plugins."io.containerd.cri.v1.images".registry]`,
			fmt.Sprintf("  config_path = %q", MirrorDir),
		),
		lines(
			"version = 2",
			`[plugins."io.containerd.grpc.v1.cri".registry]`,
			fmt.Sprintf("  config_path = %q", MirrorDir),
		),
	}
}

func lines(all ...string) string { return strings.Join(all, "\n") + "\n" }
