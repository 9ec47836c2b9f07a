package image

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"wirelab.dev/wirelab/internal/docker"
)

// shelf stands in for an engine: which images it holds, and whether a registry gives it more.
type shelf struct {
	have    map[string]bool
	pullErr error
	pulled  []string
}

func (s *shelf) HasImage(_ context.Context, ref string) (bool, error) { return s.have[ref], nil }

func (s *shelf) Pull(_ context.Context, ref string, p docker.Patience, say func(done, total int64)) error {
	if p.First <= 0 || p.Stall <= 0 {
		return errors.New("pull without a deadline")
	}
	s.pulled = append(s.pulled, ref)
	say(1<<20, 2<<20)
	return s.pullErr
}

func TestEnsureNode(t *testing.T) {
	silent := fmt.Errorf("pull: %w", docker.ErrNoRegistry)
	tests := map[string]struct {
		shelf  shelf
		want   string
		ref    string
		origin Origin
		err    string
		pulls  int
	}{
		"kind's own is here":        {shelf{have: map[string]bool{DefaultNodeImage: true, LocalNodeImage(): true}}, "", DefaultNodeImage, OriginPresent, "", 0},
		"kind's own by its tag":     {shelf{have: map[string]bool{Short(DefaultNodeImage): true, LocalNodeImage(): true}}, "", Short(DefaultNodeImage), OriginPresent, "", 0},
		"a registry has it":         {shelf{have: map[string]bool{LocalNodeImage(): true}}, "", DefaultNodeImage, OriginPulled, "", 1},
		"no registry, built":        {shelf{have: map[string]bool{LocalNodeImage(): true}, pullErr: silent}, "", LocalNodeImage(), OriginBuilt, "", 1},
		"no registry, nothing":      {shelf{pullErr: silent}, "", "", "", "make node-image", 1},
		"profile's own is here":     {shelf{have: map[string]bool{"my/node:1": true}}, "my/node:1", "my/node:1", OriginPresent, "", 0},
		"profile's own, no other":   {shelf{have: map[string]bool{LocalNodeImage(): true}, pullErr: silent}, "my/node:1", "", "", "cluster.image", 1},
		"profile's own from afar":   {shelf{}, "my/node:1", "my/node:1", OriginPulled, "", 1},
		"another version, built":    {shelf{have: map[string]bool{"wirelab/node:v1.36.3": true}, pullErr: silent}, "kindest/node:v1.36.3", "", "", "and wirelab/node:v1.36.3, which make node-image has built, is", 1},
		"profile names the default": {shelf{pullErr: silent, have: map[string]bool{LocalNodeImage(): true}}, DefaultNodeImage, "", "", "cluster.image", 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := EnsureNodeImage(t.Context(), &tt.shelf, tt.want, nil)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || !errors.Is(err, docker.ErrNoRegistry) {
					t.Fatalf("error = %v, want %q and ErrNoRegistry", err, tt.err)
				}
			} else if err != nil || got.Ref != tt.ref || got.Origin != tt.origin {
				t.Fatalf("got %+v, %v; want %s %s", got, err, tt.ref, tt.origin)
			}
			if len(tt.shelf.pulled) != tt.pulls {
				t.Errorf("pulled %q, want %d pulls", tt.shelf.pulled, tt.pulls)
			}
			if other := tt.want == "" && got.Ref != "" && got.Ref != DefaultNodeImage; other != (got.Note != "") {
				t.Errorf("note = %q with %s", got.Note, got.Ref)
			}
		})
	}
}

func TestEnsureNodeInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := &shelf{have: map[string]bool{LocalNodeImage(): true}, pullErr: ctx.Err()}
	if _, err := EnsureNodeImage(ctx, s, "", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v, want context.Canceled: an interrupt is no missing registry", err)
	}
}
