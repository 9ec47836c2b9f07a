package services

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"wirelab.dev/wirelab/datapath/lb"
	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/watch"
)

// Watch is the Services that an agent carries and their endpoints, in
// the API server's words and the datapath's.
type Watch struct {
	services   listers.ServiceLister
	serviceInf cache.SharedIndexInformer
	sliceInf   cache.SharedIndexInformer
	node       string

	mu sync.Mutex
	// stale are Services of which ports and checks are out of date, with the
	// time of the first change that made them so.
	stale map[lb.Name]time.Time

	// What follows belongs to who calls refresh.
	ports   map[lb.Name][]lb.Service
	checks  map[lb.Name]healthCheck
	leftOut map[lb.Name][]api.LeftOut
	outer   map[uint16]int // frontends by the port that they are reached at from outside
}

// Informers keep the Services and the endpoint slices.
func (w *Watch) Informers() (services, slices cache.SharedIndexInformer) {
	return w.serviceInf, w.sliceInf
}

// byService is the index of endpoint slices by the Service they belong to.
const byService = "service"

// notOurs selects what this kind of implementation carries: the same as
// kube-proxy, which leaves out what is headless and what names another proxy.
const notOurs = "!" + corev1.IsHeadlessService + ",!service.kubernetes.io/service-proxy-name"

// NewWatch makes the informers without starting them.
func NewWatch(client kubernetes.Interface, node string) (*Watch, error) {
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(stripService),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.LabelSelector = notOurs }))
	w := &Watch{
		services:   factory.Core().V1().Services().Lister(),
		serviceInf: factory.Core().V1().Services().Informer(),
		sliceInf:   factory.Discovery().V1().EndpointSlices().Informer(),
		node:       node,
		stale:      map[lb.Name]time.Time{},
		ports:      map[lb.Name][]lb.Service{},
		checks:     map[lb.Name]healthCheck{},
		leftOut:    map[lb.Name][]api.LeftOut{},
		outer:      map[uint16]int{},
	}
	err := w.sliceInf.AddIndexers(cache.Indexers{byService: func(obj any) ([]string, error) {
		slice, ok := obj.(*discoveryv1.EndpointSlice)
		if !ok {
			return nil, nil
		}
		name := serviceOfSlice(slice)
		return []string{name.Namespace + "/" + name.Name}, nil
	}})
	if err != nil {
		return nil, fmt.Errorf("index endpoint slices: %w", err)
	}
	return w, nil
}

// Follow marks what changes, and calls changed, from the caches' first lists on.
func (w *Watch) Follow(changed func()) error {
	mark := func(name lb.Name) {
		w.mark(name, time.Now())
		changed()
	}
	serviceChanged := func(old, now *corev1.Service) {
		one := cmp.Or(now, old)
		mark(lb.Name{Namespace: one.Namespace, Name: one.Name})
	}
	sliceChanged := func(old, now *discoveryv1.EndpointSlice) {
		if old != nil && (now == nil || serviceOfSlice(old) != serviceOfSlice(now)) {
			mark(serviceOfSlice(old))
		}
		if now != nil {
			mark(serviceOfSlice(now))
		}
	}
	return errors.Join(watch.Follow(w.serviceInf, "services", serviceChanged), watch.Follow(w.sliceInf, "endpoint slices", sliceChanged))
}

// mark notes that a Service has changed.
func (w *Watch) mark(name lb.Name, at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.stale[name]; !ok {
		w.stale[name] = at
	}
}

// refreshed is what a refresh has brought.
type refreshed struct {
	// services are those that have changed, each with all of its ports, or none when it has gone.
	services map[lb.Name][]lb.Service
	// known are the times at which the changes became known.
	known []time.Time
	// checks, leftOut and outer say which of the health checks, of what is left out and of the ports that are
	// reached from outside may be others than before.
	checks, leftOut, outer bool
}

// refresh works out anew what has changed since the last call.
func (w *Watch) refresh() (refreshed, error) {
	w.mu.Lock()
	stale := w.stale
	w.stale = map[lb.Name]time.Time{}
	w.mu.Unlock()
	r := refreshed{services: make(map[lb.Name][]lb.Service, len(stale)), known: slices.Collect(maps.Values(stale))}
	for name, at := range stale {
		if err := w.look(name, &r); err != nil {
			for name, at := range stale {
				w.mark(name, at)
			}
			return refreshed{}, fmt.Errorf("look up Service %s/%s, changed at %s: %w", name.Namespace, name.Name, at.Format(time.TimeOnly), err)
		}
	}
	return r, nil
}

// all are the Services as of the latest refresh, in no order.
func (w *Watch) all() (services []lb.Service) {
	for _, ports := range w.ports {
		services = append(services, ports...)
	}
	return services
}

// allChecks are their health checks, in no order.
func (w *Watch) allChecks() []healthCheck { return slices.Collect(maps.Values(w.checks)) }

// allLeftOut is what is left out of them, in no order.
func (w *Watch) allLeftOut() (all []api.LeftOut) {
	for _, left := range w.leftOut {
		all = append(all, left...)
	}
	return all
}

// count adds n to the count of each port at which the Services are reached from outside, and says whether there is
// one more or less.
func (w *Watch) count(services []lb.Service, n int) (changed bool) {
	for _, s := range services {
		for _, f := range s.Frontends {
			if f.Kind == lb.ClusterIP {
				continue
			}
			had := w.outer[f.Port]
			if w.outer[f.Port] += n; w.outer[f.Port] == 0 {
				delete(w.outer, f.Port)
			}
			changed = changed || had == 0 || had+n == 0
		}
	}
	return changed
}

// forget takes a Service out, but for the count of its ports.
func (w *Watch) forget(name lb.Name, r *refreshed) {
	_, hadCheck := w.checks[name]
	_, hadLeft := w.leftOut[name]
	r.checks, r.leftOut = r.checks || hadCheck, r.leftOut || hadLeft
	r.services[name] = nil
	delete(w.ports, name)
	delete(w.checks, name)
	delete(w.leftOut, name)
}

// look brings one Service up to date.
func (w *Watch) look(name lb.Name, r *refreshed) error {
	had := w.ports[name]
	w.forget(name, r)
	defer func() { // what comes before what goes: a port that stays is no change
		comes := w.count(w.ports[name], 1)
		r.outer = w.count(had, -1) || comes || r.outer
	}()
	svc, err := w.services.Services(name.Namespace).Get(name.Name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	objs, err := w.sliceInf.GetIndexer().ByIndex(byService, name.Namespace+"/"+name.Name)
	if err != nil {
		return err
	}
	endpoints := make([]*discoveryv1.EndpointSlice, 0, len(objs))
	for _, obj := range objs {
		if slice, ok := obj.(*discoveryv1.EndpointSlice); ok {
			endpoints = append(endpoints, slice)
		}
	}
	if ports := carriedPorts(svc, endpoints); len(ports) > 0 {
		w.ports[name], r.services[name] = ports, ports
	}
	if left := serviceLeftOut(svc, endpoints); len(left) > 0 {
		w.leftOut[name], r.leftOut = left, true
	}
	if port := svc.Spec.HealthCheckNodePort; port != 0 && isCarried(svc) {
		r.checks = true
		w.checks[name] = healthCheck{service: name, port: uint16(port), local: localReady(endpoints, w.node)}
	}
	return nil
}

// Run keeps the caches until ctx is done.
func (w *Watch) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { w.sliceInf.RunWithContext(ctx) })
	w.serviceInf.RunWithContext(ctx)
	wg.Wait()
}

func serviceOfSlice(slice *discoveryv1.EndpointSlice) lb.Name {
	return lb.Name{Namespace: slice.Namespace, Name: slice.Labels[discoveryv1.LabelServiceName]}
}

// stripService takes from Services and endpoint slices what is never read.
func stripService(obj any) (any, error) {
	switch obj := obj.(type) {
	case *corev1.Service:
		stripped := *obj
		stripped.ObjectMeta = watch.Meta(obj.ObjectMeta)
		stripped.Spec.Selector = nil
		stripped.Status.Conditions = nil
		return &stripped, nil
	case *discoveryv1.EndpointSlice:
		stripped := *obj
		stripped.ObjectMeta = watch.Meta(obj.ObjectMeta)
		stripped.Labels = map[string]string{discoveryv1.LabelServiceName: obj.Labels[discoveryv1.LabelServiceName]}
		stripped.Endpoints = slices.Clone(obj.Endpoints)
		for i := range stripped.Endpoints {
			e := &stripped.Endpoints[i]
			e.TargetRef, e.DeprecatedTopology, e.Hostname = nil, nil, nil
		}
		return &stripped, nil
	}
	return obj, nil // a tombstone
}
