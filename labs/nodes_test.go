package labs

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/profiles"
)

func node(name string, labels map[string]string, taints ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	for _, k := range taints {
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: k, Effect: corev1.TaintEffectNoSchedule})
	}
	return n
}

func TestSetTaints(t *testing.T) {
	cp := map[string]string{controlPlane: ""}
	tests := map[string]struct {
		nodes  []*corev1.Node
		remove bool
		want   string // taints of the first node
	}{
		"removed":           {[]*corev1.Node{node("a", cp, "keep", controlPlane), node("b", nil)}, true, "keep"},
		"removed already":   {[]*corev1.Node{node("a", cp), node("b", nil)}, true, ""},
		"put back":          {[]*corev1.Node{node("a", cp, "keep"), node("b", nil)}, false, "keep " + controlPlane},
		"there already":     {[]*corev1.Node{node("a", cp, controlPlane), node("b", nil)}, false, controlPlane},
		"no node but one":   {[]*corev1.Node{node("a", cp)}, false, ""},
		"workers untouched": {[]*corev1.Node{node("a", nil, controlPlane), node("b", cp)}, true, controlPlane},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			k := fake.NewClientset()
			for _, n := range tt.nodes {
				if _, err := k.CoreV1().Nodes().Create(t.Context(), n, metav1.CreateOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			if err := setTaints(t.Context(), k, tt.remove); err != nil {
				t.Fatal(err)
			}
			n, err := k.CoreV1().Nodes().Get(t.Context(), tt.nodes[0].Name, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			var keys []string
			for _, taint := range n.Spec.Taints {
				keys = append(keys, taint.Key)
			}
			if got := strings.Join(keys, " "); got != tt.want {
				t.Errorf("taints %q, want %q", got, tt.want)
			}
		})
	}
}

func TestHostsTOML(t *testing.T) {
	got := hostsTOML(profiles.RegistryMirror{Host: "docker.io", Endpoint: "http://10.0.0.1:5000"})
	want := mirrorMark + `
server = "https://registry-1.docker.io"

[host."http://10.0.0.1:5000"]
  capabilities = ["pull", "resolve"]
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := hostsTOML(profiles.RegistryMirror{Host: "quay.io", Endpoint: "x"}); !strings.Contains(got, `server = "https://quay.io"`) {
		t.Errorf("got\n%s", got)
	}
}

func TestMatchingPods(t *testing.T) {
	pod := func(ns, name string) corev1.Pod {
		return corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}}
	}
	all := []corev1.Pod{pod("default", "cni"), pod("other", "cni"), pod("default", "demo-1"), pod("default", "demo-2"), pod("kube-system", "coredns-1")}
	for typed, want := range map[string]string{
		"cni": "default/cni", "demo-1": "default/demo-1", "demo": "default/demo-1 default/demo-2", "core": "kube-system/coredns-1", "x": "", "": "",
	} {
		var got []string
		for _, p := range matching(all, typed) {
			got = append(got, p.Namespace+"/"+p.Name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q fits %q, want %q", typed, got, want)
		}
	}
}

func TestStranded(t *testing.T) {
	yes := true
	pod := func(name string, change func(*corev1.Pod)) corev1.Pod {
		p := corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, OwnerReferences: []metav1.OwnerReference{{Controller: &yes}}},
			Status:     corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.244.0.2"},
		}
		change(&p)
		return p
	}
	got := stranded([]corev1.Pod{
		pod("lost", func(*corev1.Pod) {}),
		pod("fine", func(*corev1.Pod) {}),
		pod("on-host", func(p *corev1.Pod) { p.Spec.HostNetwork = true }),
		pod("starting", func(p *corev1.Pod) { p.Status.PodIP = "" }),
		pod("ended", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }),
		pod("leaving", func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} }),
		pod("somebody's", func(p *corev1.Pod) { p.OwnerReferences = nil }),
		pod("cni", func(p *corev1.Pod) { p.Namespace, p.OwnerReferences = "default", nil }),
	}, []api.Endpoint{{Namespace: "ns", Pod: "fine"}, {Namespace: "other", Pod: "lost"}})
	var names []string
	for _, p := range got {
		names = append(names, p.Name)
	}
	if s := strings.Join(names, " "); s != "lost cni" {
		t.Errorf("stranded: %q, want lost and cni", s)
	}
}
