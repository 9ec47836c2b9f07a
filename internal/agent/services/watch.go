package services

import (
	"context"
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
	"wirelab.dev/wirelab/internal/agent/watch"
	"wirelab.dev/wirelab/internal/api"
)

// serviceName identifies a Service.
type serviceName struct{ namespace, name string }

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
	stale map[serviceName]time.Time

	// What follows belongs to who calls refresh.
	ports   map[serviceName][]lb.Service
	checks  map[serviceName]healthCheck
	leftOut map[serviceName][]api.LeftOut
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
		stale:      map[serviceName]time.Time{},
		ports:      map[serviceName][]lb.Service{},
		checks:     map[serviceName]healthCheck{},
		leftOut:    map[serviceName][]api.LeftOut{},
	}
	err := w.sliceInf.AddIndexers(cache.Indexers{byService: func(obj any) ([]string, error) {
		slice, ok := obj.(*discoveryv1.EndpointSlice)
		if !ok {
			return nil, nil
		}
		name := serviceOfSlice(slice)
		return []string{name.namespace + "/" + name.name}, nil
	}})
	if err != nil {
		return nil, fmt.Errorf("index endpoint slices: %w", err)
	}
	return w, nil
}

// Follow marks what changes, and calls changed, from the caches' first lists on.
func (w *Watch) Follow(changed func()) error {
	mark := func(name serviceName) {
		w.mark(name, time.Now())
		changed()
	}
	if _, err := w.serviceInf.AddEventHandler(watch.OnChange(func(old, now *corev1.Service) {
		if now != nil {
			old = now
		}
		mark(serviceName{old.Namespace, old.Name})
	})); err != nil {
		return fmt.Errorf("watch services: %w", err)
	}
	if _, err := w.sliceInf.AddEventHandler(watch.OnChange(func(old, now *discoveryv1.EndpointSlice) {
		if old != nil && (now == nil || serviceOfSlice(old) != serviceOfSlice(now)) {
			mark(serviceOfSlice(old))
		}
		if now != nil {
			mark(serviceOfSlice(now))
		}
	})); err != nil {
		return fmt.Errorf("watch endpoint slices: %w", err)
	}
	return nil
}

// mark notes that a Service has changed.
func (w *Watch) mark(name serviceName, at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.stale[name]; !ok {
		w.stale[name] = at
	}
}

// refreshed is what a refresh has brought.
type refreshed struct {
	services []lb.Service
	checks   []healthCheck
	leftOut  []api.LeftOut
	// changed are the times at which what is new in it became known.
	changed []time.Time
}

// refresh works out anew what has changed since the last call. The Services
// are in no order.
func (w *Watch) refresh() (refreshed, error) {
	w.mu.Lock()
	stale := w.stale
	w.stale = map[serviceName]time.Time{}
	w.mu.Unlock()
	for name, at := range stale {
		if err := w.look(name); err != nil {
			for name, at := range stale {
				w.mark(name, at)
			}
			return refreshed{}, fmt.Errorf("look up Service %s/%s, changed at %s: %w", name.namespace, name.name, at.Format(time.TimeOnly), err)
		}
	}
	r := refreshed{checks: slices.Collect(maps.Values(w.checks)), changed: slices.Collect(maps.Values(stale))}
	for _, ports := range w.ports {
		r.services = append(r.services, ports...)
	}
	for _, left := range w.leftOut {
		r.leftOut = append(r.leftOut, left...)
	}
	return r, nil
}

// look brings one Service up to date.
func (w *Watch) look(name serviceName) error {
	delete(w.ports, name)
	delete(w.checks, name)
	delete(w.leftOut, name)
	svc, err := w.services.Services(name.namespace).Get(name.name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	objs, err := w.sliceInf.GetIndexer().ByIndex(byService, name.namespace+"/"+name.name)
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
		w.ports[name] = ports
	}
	if left := serviceLeftOut(svc, endpoints); len(left) > 0 {
		w.leftOut[name] = left
	}
	if port := svc.Spec.HealthCheckNodePort; port != 0 && isCarried(svc) {
		w.checks[name] = healthCheck{service: name, port: uint16(port), local: localReady(endpoints, w.node)}
	}
	return nil
}

// Run keeps the caches until ctx is done.
func (w *Watch) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, inf := range []cache.SharedIndexInformer{w.serviceInf, w.sliceInf} {
		wg.Go(func() { inf.RunWithContext(ctx) })
	}
	wg.Wait()
	return nil
}

func serviceOfSlice(slice *discoveryv1.EndpointSlice) serviceName {
	return serviceName{slice.Namespace, slice.Labels[discoveryv1.LabelServiceName]}
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
