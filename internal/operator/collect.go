package operator

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wirelab.dev/wirelab/internal/crd"
	"wirelab.dev/wirelab/internal/identity"
	"wirelab.dev/wirelab/internal/ipam"
)

// nodeRest is how long a LabNode is left whose node is gone. Its podCIDR rests as long as an address does, so that the pods
// of the node that gets it next are not taken for those that had it.
const nodeRest = ipam.Rest

// collector removes LabNodes whose node is gone, and LabIdentities that no pod has. Both are marked first, and deleted as
// they were marked: an agent that takes a LabNode up again writes it, which is not deleted then, and gives no pod an identity
// that has been marked for long. The mark has the time, so it does not matter who leads.
type collector struct {
	*Operator
	now func() time.Time
}

// nodesGone marks the LabNodes without a Node, and deletes those that have been marked for long. What is in doubt is
// decided by what the API server says, not the cache.
func (c *collector) nodesGone(ctx context.Context) error {
	var errs []error
	for _, n := range c.labNodes.All() {
		_, err := c.nodes.Get(n.Name)
		gone := apierrors.IsNotFound(err)
		if gone {
			if _, err = c.client.CoreV1().Nodes().Get(ctx, n.Name, metav1.GetOptions{}); err != nil && !apierrors.IsNotFound(err) {
				errs = append(errs, fmt.Errorf("look for node %s: %w", n.Name, err))
				continue
			}
			gone = err != nil
		}
		errs = append(errs, visit(ctx, c, c.objects.Nodes, n, n.DeepCopy, crd.NodeGone, gone, nodeRest))
	}
	return errors.Join(errs...)
}

// identitiesUnused marks the LabIdentities that no LabNode has, and deletes those that have been marked for long.
func (c *collector) identitiesUnused(ctx context.Context) error {
	used := map[string]bool{}
	for _, n := range c.labNodes.All() {
		for _, ep := range n.Status.Endpoints {
			used[strconv.FormatUint(uint64(ep.Identity), 10)] = true
		}
	}
	var errs []error
	for _, i := range c.identities.All() {
		errs = append(errs, visit(ctx, c, c.objects.Identities, i, i.DeepCopy, crd.Unused, !used[i.Name], identity.Rest))
	}
	return errors.Join(errs...)
}

// visit marks object, of which deepCopy makes another, deletes it, or takes its mark off. An object that somebody has written
// meanwhile is left for the next time.
func visit[T metav1.Object, L any](ctx context.Context, c *collector, r crd.Resource[T, L], object T, deepCopy func() T, mark string, unwanted bool, rest time.Duration) error {
	value, marked := object.GetAnnotations()[mark]
	since, err := time.Parse(time.RFC3339, value)
	switch {
	case !unwanted && !marked:
		return nil
	case unwanted && marked && err == nil && c.now().Sub(since) < rest:
		return nil
	case unwanted && marked && err == nil:
		uid, version := object.GetUID(), object.GetResourceVersion()
		err = r.Delete(ctx, object.GetName(), metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &version}})
		if err == nil {
			c.log.Info("collected", "what", fmt.Sprintf("%T", object), "name", object.GetName(), "unwanted_since", since)
		}
	default:
		copied := deepCopy()
		annotations := copied.GetAnnotations()
		if annotations == nil {
			annotations = map[string]string{}
		}
		delete(annotations, mark)
		if unwanted {
			annotations[mark] = c.now().UTC().Format(time.RFC3339)
		}
		copied.SetAnnotations(annotations)
		_, err = r.Update(ctx, copied, metav1.UpdateOptions{})
	}
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("collect %s: %w", object.GetName(), err)
	}
	return nil
}
