package agent

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"wirelab.dev/wirelab/internal/watch"
)

// uninstall tells an agent that is stopped whether it is to come back. An
// upgrade, a drained or restarted node and a deleted pod leave everything in
// place; a deleted DaemonSet does not.
//
// Cleaning cuts off every pod on the node, so it needs proof: the API server
// says that the DaemonSet is gone or going, or it was seen to go. The latter
// is needed since what is uninstalled includes the right to ask: Helm deletes
// the roles right behind the DaemonSet.
type uninstall struct {
	client          kubernetes.Interface
	namespace, name string
	log             *slog.Logger
	seenDeleted     atomic.Bool
}

// newUninstall returns nil if the agent knows no DaemonSet of its own, which
// is then never uninstalled. daemonSet is namespace/name.
func newUninstall(client kubernetes.Interface, daemonSet string, log *slog.Logger) *uninstall {
	namespace, name, ok := strings.Cut(daemonSet, "/")
	if !ok {
		return nil
	}
	return &uninstall{client: client, namespace: namespace, name: name, log: log}
}

// watch has the informer of the DaemonSet keep seenDeleted.
func (u *uninstall) watch(inf cache.SharedIndexInformer) error {
	return watch.Follow(inf, "the agent's DaemonSet", func(_, now *appsv1.DaemonSet) {
		u.seenDeleted.Store(now == nil || now.DeletionTimestamp != nil)
	})
}

// decided reports whether the agent is being uninstalled. It asks for at most
// patience; without an answer it is not.
func (u *uninstall) decided(ctx context.Context, patience time.Duration) bool {
	if u == nil {
		return false
	}
	var ds *appsv1.DaemonSet
	var err error
	silent := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		ds, err = u.client.AppsV1().DaemonSets(u.namespace).Get(ctx, u.name, metav1.GetOptions{})
		// Not allowed to ask any more, or nobody answers: what the watch
		// has to say may still be on its way.
		return err == nil || apierrors.IsNotFound(err) || u.seenDeleted.Load(), nil
	})
	if silent != nil {
		u.log.Warn("leaving the node as it is, as nobody says whether wirelab is being uninstalled; if so, run wirelab-agent cleanup on the node", "err", err)
		return false
	}
	return err != nil || ds.DeletionTimestamp != nil
}
