package labs

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"wirelab.dev/wirelab/internal/cluster"
	"wirelab.dev/wirelab/profiles"
)

// setNodes makes registry mirrors and taints what the profile says.
func (u *up) setNodes(ctx context.Context, _ func(string)) (string, error) {
	c, err := u.found(ctx)
	if err != nil {
		return "", err
	}
	g, gctx := errgroup.WithContext(ctx)
	for _, n := range c.KubeNodes() {
		g.Go(func() error { return setMirrors(gctx, n, u.Profile.Cluster.RegistryMirrors) })
	}
	g.Go(func() error { return setTaints(gctx, u.kube, u.Profile.Cluster.RemoveControlPlaneTaint) })
	if err := g.Wait(); err != nil {
		return "", err
	}
	var notes []string
	if n := len(u.Profile.Cluster.RegistryMirrors); n > 0 {
		notes = append(notes, fmt.Sprintf("%d registry mirrors", n))
	}
	if u.Profile.Cluster.RemoveControlPlaneTaint {
		notes = append(notes, "control plane takes pods")
	}
	return strings.Join(notes, ", "), nil
}

// mirrorMark is the first line of files of ours, by which those of mirrors no longer wanted are known.
const mirrorMark = "# written by wirelab"

// hostsTOML is what containerd reads to find a registry's mirror; the registry itself stays the fallback.
func hostsTOML(m profiles.RegistryMirror) string {
	return fmt.Sprintf("%s\nserver = %q\n\n[host.%q]\n  capabilities = [\"pull\", \"resolve\"]\n",
		mirrorMark, registryURL(m.Host), m.Endpoint)
}

// registryURL is where a registry really is: docker.io is a name that images use and no host answers to.
func registryURL(host string) string {
	if host == "docker.io" {
		return "https://registry-1.docker.io"
	}
	return "https://" + host
}

// setMirrors writes one file a mirror and removes files of ours for others. containerd reads them at each pull, so
// nothing needs to be restarted.
func setMirrors(ctx context.Context, n cluster.Node, mirrors []profiles.RegistryMirror) error {
	var script strings.Builder
	fmt.Fprintf(&script, "set -e\nfor f in %s/*/hosts.toml; do\n", profiles.MirrorDir)
	fmt.Fprintf(&script, "  if [ -f \"$f\" ] && [ \"$(head -n1 \"$f\")\" = %q ]; then rm -r \"$(dirname \"$f\")\"; fi\ndone\n", mirrorMark)
	for _, m := range mirrors {
		dir := path.Join(profiles.MirrorDir, m.Host)
		fmt.Fprintf(&script, "mkdir -p '%s'\ncat > '%s/hosts.toml' <<'END'\n%sEND\n", dir, dir, hostsTOML(m))
	}
	if _, err := n.Run(ctx, strings.NewReader(script.String()), "bash", "-s"); err != nil {
		return fmt.Errorf("set registry mirrors on node %s: %w", n.Name, err)
	}
	return nil
}

const controlPlane = "node-role.kubernetes.io/control-plane"

// setTaints removes the taint that keeps pods off control planes, or puts it there where there are other nodes.
func setTaints(ctx context.Context, c kubernetes.Interface, remove bool) error {
	all, err := c.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list nodes: %w", err)
	}
	cps := slices.DeleteFunc(slices.Clone(all.Items), func(n corev1.Node) bool {
		_, is := n.Labels[controlPlane]
		return !is
	})
	want := !remove && len(cps) < len(all.Items)
	for _, n := range cps {
		if err := setTaint(ctx, c, &n, want); err != nil {
			return err
		}
	}
	return nil
}

func setTaint(ctx context.Context, c kubernetes.Interface, n *corev1.Node, want bool) error {
	isIt := func(t corev1.Taint) bool { return t.Key == controlPlane }
	if slices.ContainsFunc(n.Spec.Taints, isIt) == want {
		return nil
	}
	taints := slices.DeleteFunc(slices.Clone(n.Spec.Taints), isIt)
	if want {
		taints = append(taints, corev1.Taint{Key: controlPlane, Effect: corev1.TaintEffectNoSchedule})
	}
	// The resource version makes the server refuse when another controller changed taints meanwhile.
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": n.ResourceVersion},
		"spec":     map[string]any{"taints": taints},
	})
	if err != nil {
		return fmt.Errorf("write taints of node %s: %w", n.Name, err)
	}
	if _, err := c.CoreV1().Nodes().Patch(ctx, n.Name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("set taints of node %s: %w", n.Name, err)
	}
	return nil
}
