package identities

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"wirelab.dev/wirelab/internal/identity"
)

// bench are Pods that know what a test puts into a store.
type bench struct {
	*Pods
	store cache.Indexer
	log   bytes.Buffer
	err   error // of finding a number
	asked int
}

func newBench() *bench {
	b := &bench{store: cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})}
	b.Pods = NewPods(listers.NewPodLister(b.store), identity.NewFilter(nil, nil), func(_ context.Context, s identity.Set) (identity.ID, error) {
		b.asked++
		if b.err != nil {
			return identity.Unknown, b.err
		}
		return 1000 + identity.ID(len(s.Labels["app"])), nil
	}, slog.New(slog.NewTextHandler(&b.log, nil)))
	return b
}

func (b *bench) put(t *testing.T, name, uid, app string, annotations map[string]string) {
	t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(uid), Labels: map[string]string{"app": app}, Annotations: annotations}}
	if err := b.store.Add(pod); err != nil {
		t.Fatal(err)
	}
	b.Changed()
}

func TestAwait(t *testing.T) {
	for _, tc := range []struct {
		name  string
		uid   string
		happy func(*testing.T, *bench) // while it is waited for
		want  identity.ID
		after time.Duration
		says  string
	}{
		{"a pod that is known", "u1", nil, 1001, 0, ""},
		{"a static pod", "hash", nil, 1001, 0, ""},
		{"a runtime that tells no UID", "", nil, 1001, 0, ""},
		{"another pod of its name", "u2", nil, identity.Init, Patience, "has not told of the pod"},
		{"another pod of its name, and then itself", "u2", func(t *testing.T, b *bench) { b.put(t, "p", "u2", "ab", nil) }, 1002, time.Second, ""},
		{"an API server that comes back", "u1", func(_ *testing.T, b *bench) { b.err = nil }, 1001, time.Second, ""},
		{"an API server that stays away", "u1", nil, identity.Init, Patience, "connection refused"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench()
				b.put(t, "p", "u1", "a", map[string]string{mirror: "hash"})
				if strings.HasPrefix(tc.name, "an API server") {
					b.err = errors.New("connection refused")
				}
				if tc.happy != nil {
					time.AfterFunc(time.Second, func() { tc.happy(t, b) })
				}
				start := time.Now()
				got := b.Await(t.Context(), "ns", "p", tc.uid)
				took := time.Since(start)
				if got != tc.want || took < tc.after || took > tc.after+retry {
					t.Errorf("got %v after %v, want %v after %v", got, took, tc.want, tc.after)
				}
				if log := b.log.String(); (tc.says == "") != (log == "") || !strings.Contains(log, tc.says) || tc.says != "" && !strings.Contains(log, "pod=ns/p") {
					t.Errorf("the log says %q, want %q", log, tc.says)
				}
			})
		})
	}
}

func TestContainerThatIsNoPod(t *testing.T) {
	if got := newBench().Await(t.Context(), "", "", ""); got != identity.Unmanaged {
		t.Errorf("got %v", got)
	}
}

func TestSetOfAPod(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", Labels: map[string]string{"app": "a", "pod-template-hash": "x"}}}
	got := Set(pod, identity.NewFilter(nil, nil))
	if got.Namespace != "ns" || got.ServiceAccount != "default" || len(got.Labels) != 1 || got.Labels["app"] != "a" {
		t.Errorf("got %+v", got)
	}
	pod.Spec.ServiceAccountName = "sa"
	if got := Set(pod, identity.NewFilter(nil, []string{"app"})); got.ServiceAccount != "sa" || len(got.Labels) != 0 {
		t.Errorf("got %+v", got)
	}
}
