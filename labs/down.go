package labs

import (
	"context"
	"errors"

	"wirelab.dev/wirelab/internal/cluster"
	"wirelab.dev/wirelab/internal/docker"
	"wirelab.dev/wirelab/profiles"
)

// DownResult is what [Down] did.
type DownResult struct {
	Lab string `json:"lab"`
	// Removed is false when nothing was there.
	Removed bool `json:"removed"`
}

// Down removes a lab, whole or half made, with everything it brought: nodes, volumes, its node image, outside hosts of
// checks, its context in kubeconfigs. Nothing there is no error. A kind cluster that is no lab is left alone, and
// the error wraps [ErrTaken].
func Down(ctx context.Context, name string) (DownResult, error) {
	r := DownResult{Lab: name}
	if err := profiles.CheckName(name); err != nil {
		return r, err
	}
	e, err := docker.Connect(ctx)
	if err != nil {
		return r, err
	}
	defer e.Close()
	unlock, err := lock(ctx, e, name)
	if err != nil {
		return r, err
	}
	defer unlock()
	cs := cluster.New(e, nil)
	c, err := cs.Find(ctx, name)
	if err != nil {
		return r, err
	}
	left, err := cs.HasLeftovers(ctx, name)
	if err != nil {
		return r, err
	}
	r.Removed = c != nil || left
	err = cs.Delete(ctx, name)
	if errors.Is(err, cluster.ErrForeign) {
		r.Removed = false
		return r, foreign(name)
	}
	return r, err
}
