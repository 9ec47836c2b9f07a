package crd

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// object is a pointer to one of the types of this package.
type object[V any] interface {
	*V
	runtime.Object
	metav1.Object
}

// Informer is a cache of all objects of one kind that follows the API server.
type Informer[V any, T object[V]] struct{ cache.SharedIndexInformer }

// NewInformer returns one that does nothing until it is run.
func NewInformer[V any, T object[V], L runtime.Object](r Resource[T, L]) Informer[V, T] {
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return r.List(ctx, o) },
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return r.Watch(ctx, o)
		},
	}
	return Informer[V, T]{cache.NewSharedIndexInformer(cache.ToListWatcherWithWatchListSemantics(lw, r), T(new(V)), 0, nil)}
}

// Find returns the object of the name, or nil. It is the cache's own: copy it before changing it.
func (i Informer[V, T]) Find(name string) T {
	found, ok, err := i.GetStore().GetByKey(name)
	if err != nil || !ok {
		return nil
	}
	t, _ := found.(T)
	return t
}

// All returns all objects, in no order. They are the cache's own.
func (i Informer[V, T]) All() []T {
	stored := i.GetStore().List()
	all := make([]T, 0, len(stored))
	for _, one := range stored {
		if t, ok := one.(T); ok {
			all = append(all, t)
		}
	}
	return all
}
