package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"wirelab.dev/wirelab/internal/crd"
	"wirelab.dev/wirelab/internal/ipam"
)

// one asks for one object of a list.
var one = metav1.ListOptions{Limit: 1}

// giver gives each LabNode without podCIDRs one out of the pool. What is held is what LabNodes hold, and nothing else.
//
// No two nodes get the same, although another operator may take this one for dead and lead, this one may be late with what
// it has decided, and the API server may be late with what this one has written:
//
//   - A decision rests on one list of all LabNodes, read at the API server, and each LabNode is written as it was in that
//     list, or not at all: the API server refuses a version that is not the newest.
//   - Between the list and the first write, the giver asks the API server whether it still leads.
//   - Who begins to lead first marks every LabNode that has no podCIDR (fence), and only then reads its own first list.
//   - A write that failed in another way than by being refused for its version may be carried out at any later time, as
//     one that took too long. The giver marks its LabNode, too, before it reads its next list (settle).
//
// So if another one began to lead after this one asked, it has marked all that this one is still to write, whose writes
// are refused, or it has seen them in its list. A LabNode that is younger than the mark cannot be in this one's list:
// that was read before this one asked. And of this one's own earlier writes, its list has what they have written, or they
// are refused.
type giver struct {
	*Operator
	// unsettled are LabNodes as they were in writes that may yet be carried out.
	unsettled []*crd.LabNode
}

// apply gives out what is wanted, and takes back what it has said of those that have got what they waited for, from
// wherever. It reads nothing from the API server where nobody waits.
func (g *giver) apply(ctx context.Context) error {
	all := g.labNodes.All()
	errs := []error{g.problemsOver(ctx, all)}
	if g.cfg.Pool != nil && slices.ContainsFunc(all, waits) {
		list, err := g.decidable(ctx)
		if err == nil {
			err = g.giveAll(ctx, list)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// sameToGiver tells whether apply would do for both what it does for one; either may be nil.
func sameToGiver(a, b *crd.LabNode) bool {
	if a == nil || b == nil {
		return false
	}
	return waits(a) == waits(b) && slices.Equal(a.Spec.PodCIDRs, b.Spec.PodCIDRs) && a.Status.Problem == b.Status.Problem
}

// giveAll gives each of list that waits a podCIDR that none of list holds.
func (g *giver) giveAll(ctx context.Context, list []crd.LabNode) error {
	held := podCIDRs(list)
	var errs []error
	for i := range list {
		n := &list[i]
		if !waits(n) {
			continue
		}
		next, err := g.cfg.Pool.Next(held)
		if err != nil {
			errs = append(errs, g.sayProblem(ctx, n, err))
			continue
		}
		held = append(held, next)
		if err := g.give(ctx, n, next); err != nil {
			errs = append(errs, err)
		}
		if ctx.Err() != nil {
			break // the next time, of a new list
		}
	}
	return errors.Join(errs...)
}

// decidable is all LabNodes, oldest first, of a list that this operator may decide on.
func (g *giver) decidable(ctx context.Context) ([]crd.LabNode, error) {
	if err := g.settle(ctx); err != nil {
		return nil, err
	}
	list, err := g.objects.Nodes.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list LabNodes: %w", crd.Explain(crd.LabNodes, err))
	}
	if err := g.election.held(ctx); err != nil {
		return nil, err
	}
	slices.SortStableFunc(list.Items, func(a, b crd.LabNode) int {
		return a.CreationTimestamp.Compare(b.CreationTimestamp.Time)
	})
	return list.Items, nil
}

// give writes a podCIDR into n, unless n has changed.
func (g *giver) give(ctx context.Context, n *crd.LabNode, podCIDR netip.Prefix) error {
	changed := n.DeepCopy()
	changed.Spec.PodCIDRs = []netip.Prefix{podCIDR}
	if _, err := g.objects.Nodes.Update(ctx, changed, metav1.UpdateOptions{}); err != nil {
		if !ended(err) {
			g.unsettled = append(g.unsettled, n)
		}
		return fmt.Errorf("give %s to node %s: %w", podCIDR, n.Name, err)
	}
	g.log.Info("gave a podCIDR", "node", n.Name, "podCIDR", podCIDR)
	return nil
}

// fence marks every LabNode without podCIDRs: see [giver].
func (g *giver) fence(ctx context.Context) error {
	if g.cfg.Pool == nil {
		return nil
	}
	list, err := g.objects.Nodes.List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list LabNodes: %w", crd.Explain(crd.LabNodes, err))
	}
	for i := range list.Items {
		if n := &list.Items[i]; waits(n) {
			if err := g.mark(ctx, n); err != nil {
				return err
			}
		}
	}
	return nil
}

// settle has writes that may yet be carried out refused, or finds that they were: see [giver].
func (g *giver) settle(ctx context.Context) error {
	for len(g.unsettled) > 0 {
		if err := g.mark(ctx, g.unsettled[0]); err != nil {
			return err
		}
		g.unsettled = g.unsettled[1:]
	}
	return nil
}

// mark makes another version of n, as it is now, unless it has podCIDRs by then or is gone.
func (g *giver) mark(ctx context.Context, n *crd.LabNode) error {
	for {
		marked := n.DeepCopy()
		// With the version, no two marks are the same: the API server makes no version of what is as it was.
		metav1.SetMetaDataAnnotation(&marked.ObjectMeta, crd.Leader, g.cfg.Identity+"@"+n.ResourceVersion)
		_, err := g.objects.Nodes.Update(ctx, marked, metav1.UpdateOptions{})
		if apierrors.IsConflict(err) {
			if n, err = g.objects.Nodes.Get(ctx, n.Name, metav1.GetOptions{}); err == nil && waits(n) {
				continue
			}
		}
		if err == nil || apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("mark LabNode %s: %w", marked.Name, err)
	}
}

// ended tells of a failed write of an object as it was whether it will not be carried out any more: there is another
// version, or none. No other answer says so, as the client may have sent it more than once, and the API server may itself
// not know how it ended.
func ended(err error) bool { return apierrors.IsConflict(err) || apierrors.IsNotFound(err) }

// sayProblem tells in n and in an event of the node why it gets none, and returns why.
func (g *giver) sayProblem(ctx context.Context, n *crd.LabNode, why error) error {
	if !errors.Is(why, ipam.ErrUsedUp) {
		return why
	}
	problem := fmt.Sprintf("%v: node %s waits, and with it its pods; add a CIDR to ipam.operator.clusterPoolIPv4PodCIDRList", why, n.Name)
	err := errors.New(problem)
	if n.Status.Problem == problem {
		return err
	}
	return errors.Join(err, g.writeProblem(ctx, n.Name, problem), g.warn(ctx, n, problem))
}

// problemsOver takes the problem off those that have podCIDRs.
func (g *giver) problemsOver(ctx context.Context, all []*crd.LabNode) error {
	var errs []error
	for _, n := range all {
		if n.Status.Problem != "" && len(n.Spec.PodCIDRs) > 0 {
			errs = append(errs, g.writeProblem(ctx, n.Name, ""))
		}
	}
	return errors.Join(errs...)
}

func (g *giver) writeProblem(ctx context.Context, node, problem string) error {
	var value any // null takes the key away
	if problem != "" {
		value = problem
	}
	body, err := json.Marshal(map[string]any{"status": map[string]any{"problem": value}})
	if err != nil {
		return err
	}
	if _, err := g.objects.Nodes.Patch(ctx, node, types.MergePatchType, body, metav1.PatchOptions{}, "status"); err != nil {
		return fmt.Errorf("write the problem of LabNode %s: %w", node, err)
	}
	return nil
}

func waits(n *crd.LabNode) bool { return len(n.Spec.PodCIDRs) == 0 && n.DeletionTimestamp == nil }

// podCIDRs are all that are held.
func podCIDRs(list []crd.LabNode) (held []netip.Prefix) {
	for i := range list {
		held = append(held, list[i].Spec.PodCIDRs...)
	}
	return held
}
