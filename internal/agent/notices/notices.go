// Package notices tells the owners of objects, by events on these, what becomes of them.
package notices

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// Teller makes the events of one node's agent. An event's name follows from what it says of which object, so that what
// several agents have to say, or one after a restart, is there once.
type Teller struct {
	client kubernetes.Interface
	node   string
	limit  *rate.Limiter
}

// Events that an agent makes a second, and at once. There may be objects by the
// thousand, and client-go lets all of an agent's requests wait for each other.
const (
	noticesPerSecond = 2
	noticesAtOnce    = 5
)

// New returns the teller of the node.
func New(client kubernetes.Interface, node string) Teller {
	return Teller{client: client, node: node, limit: rate.NewLimiter(noticesPerSecond, noticesAtOnce)}
}

// Component is who events come from.
const Component = "wirelab-agent"

// Warn makes an event of type Warning, unless there is one. generation is the
// object's: of a changed one it is said again.
func (t Teller) Warn(ctx context.Context, about corev1.ObjectReference, generation int64, reason, message string) error {
	if err := t.limit.Wait(ctx); err != nil {
		return fmt.Errorf("wait to make an event: %w", err)
	}
	now := metav1.NewTime(time.Now())
	_, err := t.client.CoreV1().Events(about.Namespace).Create(ctx, &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: about.Namespace, Name: noticeName(about, generation, reason)},
		InvolvedObject: about,
		Type:           corev1.EventTypeWarning, Reason: reason, Message: message,
		Source:              corev1.EventSource{Component: Component, Host: t.node},
		ReportingController: Component, ReportingInstance: t.node,
		FirstTimestamp: now, LastTimestamp: now, Count: 1,
	}, metav1.CreateOptions{})
	switch {
	case err == nil, apierrors.IsAlreadyExists(err):
		return nil
	case apierrors.IsNotFound(err), apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return nil // the object goes with its namespace
	}
	return fmt.Errorf("make an event for %s %s/%s: %w", about.Kind, about.Namespace, about.Name, err)
}

// noticeName begins with the object's own, as events' names do.
func noticeName(about corev1.ObjectReference, generation int64, reason string) string {
	const most = 200 // of the 253 that a name may have
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%d/%s", about.UID, generation, reason))
	name := about.Name[:min(len(about.Name), most)]
	return strings.TrimRight(name, "-.") + "." + hex.EncodeToString(sum[:8])
}

// Rank is the first n of nodes in an order that differs from key to key, and is
// the same for all who know the same nodes. One node more or less changes the
// place of no other among themselves.
func Rank(nodes []string, key string, n int) []string {
	weight := func(node string) uint64 {
		sum := sha256.Sum256([]byte(key + "/" + node))
		return binary.BigEndian.Uint64(sum[:])
	}
	sorted := slices.Clone(nodes)
	slices.SortFunc(sorted, func(a, b string) int { return cmp.Or(cmp.Compare(weight(a), weight(b)), cmp.Compare(a, b)) })
	return sorted[:min(n, len(sorted))]
}
