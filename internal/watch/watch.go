// Package watch is what informers have in common: what they keep of objects, and how changes are heard of.
package watch

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
)

// Meta keeps what identifies an object.
func Meta(m metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: m.Name, Namespace: m.Namespace, UID: m.UID, ResourceVersion: m.ResourceVersion,
		CreationTimestamp: m.CreationTimestamp, DeletionTimestamp: m.DeletionTimestamp,
	}
}

// Strip keeps f's of each object of a kind. What is none, as a tombstone, stays as it is.
func Strip[T any](f func(*T) *T) cache.TransformFunc {
	return func(obj any) (any, error) {
		if t, ok := obj.(*T); ok {
			return f(t), nil
		}
		return obj, nil
	}
}

// Follow has f called as by [OnChange]. An error names what is watched.
func Follow[T any](inf cache.SharedInformer, what string, f func(old, now *T)) error {
	if _, err := inf.AddEventHandler(OnChange(f)); err != nil {
		return fmt.Errorf("watch %s: %w", what, err)
	}
	return nil
}

// OnChange calls f with the object before and after, of which one is nil
// when it came or went.
func OnChange[T any](f func(old, now *T)) cache.ResourceEventHandler {
	typed := func(obj any) *T {
		if tombstone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
			obj = tombstone.Obj
		}
		t, _ := obj.(*T)
		return t
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { f(nil, typed(obj)) },
		UpdateFunc: func(old, now any) { f(typed(old), typed(now)) },
		DeleteFunc: func(obj any) { f(typed(obj), nil) },
	}
}
