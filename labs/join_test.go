package labs

import (
	"maps"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"wirelab.dev/wirelab/internal/kube"
)

// The signature is what k8s.io/cluster-bootstrap v0.37.2 makes, which the controller manager signs with.
func TestDetachedJWS(t *testing.T) {
	const want = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImFiY2RlZiJ9..K1chermAQEq0rdqy-ehj0VDfmA_ytv8Wzh9g26FldrE"
	if got := detachedJWS("apiVersion: v1\n", "abcdef", []byte("0123456789abcdef")); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestClusterInfoIsSignedWithTheTokensForThat(t *testing.T) {
	token := func(id, signs string) *corev1.Secret {
		return &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: SystemNamespace, Name: "bootstrap-token-" + id},
			Type:       "bootstrap.kubernetes.io/token",
			Data:       map[string][]byte{"token-id": []byte(id), "token-secret": []byte("0123456789abcdef"), "usage-bootstrap-signing": []byte(signs)},
		}
	}
	c := &kube.Client{Interface: fake.NewClientset(token("abcdef", "true"), token("fedcba", "false"))}
	if signed, err := signWith(t.Context(), c); signed || err != nil {
		t.Errorf("signed %v, error %v, and there is nothing to sign", signed, err)
	}
	infos := c.CoreV1().ConfigMaps("kube-public")
	info := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "cluster-info"}, Data: map[string]string{"kubeconfig": "apiVersion: v1\n"}}
	if _, err := infos.Create(t.Context(), info, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if signed, err := signWith(t.Context(), c); !signed || err != nil {
		t.Errorf("signed %v, error %v", signed, err)
	}
	info, err := infos.Get(t.Context(), "cluster-info", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Sorted(maps.Keys(info.Data)); !slices.Equal(got, []string{"jws-kubeconfig-abcdef", "kubeconfig"}) {
		t.Errorf("it has %q", got)
	}
}
