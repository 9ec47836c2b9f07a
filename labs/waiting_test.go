package labs

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/client-go/rest"

	"wirelab.dev/wirelab/internal/cluster"
	"wirelab.dev/wirelab/internal/kube"
)

// TestWaitingIsTold: a wait that takes longer than a moment is told once, and a shorter one is not.
func TestWaitingIsTold(t *testing.T) {
	for _, tt := range []struct {
		starts time.Duration // after that a container is there
		want   []string
	}{{0, nil}, {moment / 2, nil}, {2 * moment, []string{"waiting for pod ns/x"}}, {time.Minute, []string{"waiting for pod ns/x"}}} {
		synctest.Test(t, func(t *testing.T) {
			var told []string
			l := &Lab{say: func(what string) { told = append(told, what) }}
			began := time.Now()
			err := l.toldWhenStarted(t.Context(), "pod ns/x", func() error {
				if time.Since(began) < tt.starts {
					return errors.New(noAgent)
				}
				return nil
			})
			if (err == nil) != (tt.starts < agentPatience) || !slices.Equal(told, tt.want) {
				t.Errorf("%v: told %q, want %q; %v", tt.starts, told, tt.want, err)
			}
		})
	}
	telling(nil, "nobody listens")()
}

// TestStartingAPIServerIsTold waits for one that refuses, until that is told.
func TestStartingAPIServerIsTold(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "not yet", http.StatusServiceUnavailable)
	}))
	defer server.Close()
	client, err := kube.NewForConfig(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	ctx, enough := context.WithTimeout(t.Context(), 20*time.Second)
	defer enough()
	told := ""
	_, _, err = awaitRecord(ctx, client, &cluster.Cluster{Name: "l"}, func(what string) { told = what; enough() })
	if told != "waiting for the API server of lab l" || !errors.Is(err, context.Canceled) {
		t.Errorf("told %q; %v", told, err)
	}
}
