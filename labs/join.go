package labs

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"wirelab.dev/wirelab/internal/kube"
)

// What a node that joins reads of a cluster before it trusts it: KEP-130, and "Authenticating with Bootstrap Tokens" in Kubernetes'
// documentation.
const (
	clusterInfo          = "cluster-info"    // a ConfigMap of metav1.NamespacePublic
	clusterInfoContent   = "kubeconfig"      // its key for what is signed
	clusterInfoSignature = "jws-kubeconfig-" // and, with a token's id behind it, for the signature by that token
	bootstrapTokens      = "type=bootstrap.kubernetes.io/token"
)

// signClusterInfo signs what nodes that join ask for first, as soon as it is there. The controller manager does that too, but begins
// only some seconds later; by then kubeadm has asked in vain, and asks again after 5 s. So whatever fails here is left to
// the controller manager, and ctx is to end when the nodes have joined.
func (u *up) signClusterInfo(ctx context.Context) {
	select {
	case <-u.booted:
	case <-ctx.Done():
		return
	}
	c, err := u.reach(ctx)
	for err == nil {
		var signed bool
		if signed, err = signWith(ctx, c); signed {
			return
		}
		if err == nil {
			err = pause(ctx)
		}
	}
}

// signWith signs with each token that is there for it. False: what is signed is not there yet.
func signWith(ctx context.Context, c *kube.Client) (bool, error) {
	maps := c.CoreV1().ConfigMaps(metav1.NamespacePublic)
	info, err := maps.List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + clusterInfo})
	if err != nil || len(info.Items) == 0 {
		return false, err
	}
	tokens, err := c.CoreV1().Secrets(SystemNamespace).List(ctx, metav1.ListOptions{FieldSelector: bootstrapTokens})
	if err != nil {
		return false, err
	}
	content := info.Items[0].Data[clusterInfoContent]
	signatures := map[string]string{}
	for _, t := range tokens.Items {
		if string(t.Data["usage-bootstrap-signing"]) == "true" {
			id := string(t.Data["token-id"])
			signatures[clusterInfoSignature+id] = detachedJWS(content, id, t.Data["token-secret"])
		}
	}
	patch, err := json.Marshal(corev1.ConfigMap{Data: signatures})
	if err != nil {
		return false, fmt.Errorf("write the signatures of %s: %w", clusterInfo, err)
	}
	_, err = maps.Patch(ctx, clusterInfo, types.MergePatchType, patch, metav1.PatchOptions{})
	return err == nil, err
}

// detachedJWS is content's signature by HMAC-SHA256 with a key, in the form of RFC 7515, appendix F: without the content.
func detachedJWS(content, keyID string, key []byte) string {
	encode := base64.RawURLEncoding.EncodeToString
	header := encode(fmt.Appendf(nil, `{"alg":"HS256","kid":%q}`, keyID))
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s", header, encode([]byte(content)))
	return header + ".." + encode(mac.Sum(nil))
}
