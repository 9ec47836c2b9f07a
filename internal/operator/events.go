package operator

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wirelab.dev/wirelab/internal/crd"
)

const (
	component        = "wirelab-operator"
	reasonPoolUsedUp = "PodCIDRPoolUsedUp"
)

// warn makes an event of the node that n is about, unless there is one that says the same.
func (g *giver) warn(ctx context.Context, n *crd.LabNode, message string) error {
	now := metav1.NewTime(time.Now())
	sum := sha256.Sum256([]byte(string(n.Spec.NodeUID) + message))
	_, err := g.client.CoreV1().Events(metav1.NamespaceDefault).Create(ctx, &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: n.Name + "." + hex.EncodeToString(sum[:8])},
		InvolvedObject: corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: n.Name, UID: n.Spec.NodeUID},
		Type:           corev1.EventTypeWarning, Reason: reasonPoolUsedUp, Message: message,
		Source:              corev1.EventSource{Component: component},
		ReportingController: component, ReportingInstance: g.cfg.Identity,
		FirstTimestamp: now, LastTimestamp: now, Count: 1,
	}, metav1.CreateOptions{})
	if err == nil || apierrors.IsAlreadyExists(err) {
		return nil
	}
	return fmt.Errorf("make an event of node %s: %w", n.Name, err)
}
