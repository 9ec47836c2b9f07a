package operator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// leaseName is the lease that who leads holds.
const leaseName = "wirelab-operator"

// How long a lease counts that nobody renews, and how often it is tried to have it.
const (
	leaseDuration = 15 * time.Second
	renewDeadline = 10 * time.Second
	retryPeriod   = 2 * time.Second
)

var errLost = errors.New("another operator leads now")

// election is this operator's part in agreeing on who leads.
type election struct {
	cfg     Config
	client  kubernetes.Interface
	log     *slog.Logger
	elector atomic.Pointer[leaderelection.LeaderElector]
}

// run waits for the lead, runs lead with it, and gives it up when that or ctx ends. It leads at most once.
func (e *election) run(ctx context.Context, lead func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	result := make(chan error, 1)
	began := atomic.Bool{}
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta: metav1.ObjectMeta{Namespace: e.cfg.Namespace, Name: leaseName}, Client: e.client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: e.cfg.Identity},
		},
		LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod,
		ReleaseOnCancel: true, Name: leaseName,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) {
				began.Store(true)
				err := lead(ctx)
				result <- err
				if err != nil {
					cancel()
				}
			},
			OnStoppedLeading: func() {},
			OnNewLeader: func(who string) {
				e.log.Info("there is a leader", "operator", who, "itself", who == e.cfg.Identity)
			},
		},
	})
	if err != nil {
		return fmt.Errorf("take part in the election: %w", err)
	}
	e.elector.Store(elector)
	elector.Run(ctx)
	if !began.Load() {
		return nil
	}
	err = <-result
	if err == nil && ctx.Err() == nil {
		err = errLost
	}
	return err
}

// held returns nil if, by the API server's newest word, this operator leads.
func (e *election) held(ctx context.Context) error {
	lease, err := e.client.CoordinationV1().Leases(e.cfg.Namespace).Get(ctx, leaseName, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("look who leads: %w", err)
	}
	if holder := resourcelock.LeaseSpecToLeaderElectionRecord(&lease.Spec).HolderIdentity; holder != e.cfg.Identity {
		return fmt.Errorf("%w: %q", errLost, holder)
	}
	return nil
}

// ready returns why it is not known who leads.
func (e *election) ready() error {
	elector := e.elector.Load()
	if elector == nil || elector.GetLeader() == "" {
		return errors.New("it is not known yet who leads")
	}
	return nil
}

// healthy returns why this process, which led, has not ended although it does not know whether it still does.
func (e *election) healthy() error {
	elector := e.elector.Load()
	if elector == nil {
		return nil
	}
	return elector.Check(renewDeadline)
}
