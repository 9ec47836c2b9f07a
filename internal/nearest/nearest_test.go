package nearest

import "testing"

func TestOf(t *testing.T) {
	words := []string{"kubeproxy", "kubeproxy-replacement", "ebpf"}
	for word, want := range map[string]string{
		"kubeprox": "kubeproxy", "kubepoxry": "kubeproxy", "KubeProxy": "kubeproxy", "kubeproxyreplacement": "kubeproxy-replacement",
		"kube-proxy": "kubeproxy", "epbf": "ebpf", "cilium": "", "": "",
	} {
		if got := Of(word, words); got != want {
			t.Errorf("Of(%q) is %q, want %q", word, got, want)
		}
	}
}
