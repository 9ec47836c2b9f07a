package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/client"

	"wirelab.dev/wirelab/internal/interrupt"
)

// HasImage tells whether the engine holds an image of this name (tag, digest or both).
func (e *Engine) HasImage(ctx context.Context, ref string) (bool, error) {
	lctx, late, cancel := limit(ctx, e.lookUp)
	defer cancel()
	_, err := e.api.ImageInspect(lctx, ref)
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for image %s: %w", ref, late(err))
	}
	return true, nil
}

// Entrypoint is what containers of an image start with: its entrypoint, and its command where there is no other.
func (e *Engine) Entrypoint(ctx context.Context, ref string) ([]string, error) {
	lctx, late, cancel := limit(ctx, e.lookUp)
	defer cancel()
	r, err := e.api.ImageInspect(lctx, ref)
	if err != nil {
		return nil, fmt.Errorf("inspect image %s: %w", ref, late(err))
	}
	if r.Config == nil {
		return nil, nil
	}
	return slices.Concat(r.Config.Entrypoint, r.Config.Cmd), nil
}

// ImageID is the engine's own name for what an image has in it, empty where there is no such image.
func (e *Engine) ImageID(ctx context.Context, ref string) (string, error) {
	lctx, late, cancel := limit(ctx, e.lookUp)
	defer cancel()
	r, err := e.api.ImageInspect(lctx, ref)
	if errdefs.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("inspect image %s: %w", ref, late(err))
	}
	return r.ID, nil
}

// TagImage gives an image one more name.
func (e *Engine) TagImage(ctx context.Context, ref, tag string) error {
	lctx, late, cancel := limit(ctx, e.doIt)
	defer cancel()
	if _, err := e.api.ImageTag(lctx, client.ImageTagOptions{Source: ref, Target: tag}); err != nil {
		return fmt.Errorf("tag image %s as %s: %w", ref, tag, late(err))
	}
	return nil
}

// SaveImage writes an image as a docker image archive, in which it has the name ref. A ref with a digest gets none there.
func (e *Engine) SaveImage(ctx context.Context, ref string, archive io.Writer) error {
	lctx, late, cancel := limit(ctx, loadDeadline)
	defer cancel()
	r, err := e.api.ImageSave(lctx, []string{ref})
	if err != nil {
		return fmt.Errorf("save image %s: %w", ref, late(err))
	}
	defer r.Close()
	if _, err := io.Copy(archive, r); err != nil {
		return fmt.Errorf("save image %s: %w", ref, late(err))
	}
	return nil
}

// LoadImage reads a docker image archive into the engine.
func (e *Engine) LoadImage(ctx context.Context, archive io.Reader) error {
	lctx, late, cancel := limit(ctx, loadDeadline)
	defer cancel()
	r, err := e.api.ImageLoad(lctx, archive, client.ImageLoadWithQuiet(true))
	if err != nil {
		return fmt.Errorf("load image: %w", late(err))
	}
	defer r.Close()
	// The engine reports a bad archive inside a stream that began with status 200.
	dec := json.NewDecoder(r)
	for {
		var m struct {
			Error string `json:"error"`
		}
		switch err := dec.Decode(&m); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("load image: %w", late(err))
		case m.Error != "":
			return fmt.Errorf("load image: %s", m.Error)
		}
	}
}

// LabelImage makes the image tag: base with labels added and nothing else changed. Containers made from it
// carry the labels, which is how a lab's nodes are known even when the program that made them was killed.
// An older image of that tag is replaced.
func (e *Engine) LabelImage(ctx context.Context, base, tag string, labels map[string]string) error {
	lctx, late, cancel := limit(ctx, e.doIt)
	defer cancel()
	made, err := e.api.ContainerCreate(lctx, client.ContainerCreateOptions{Config: &container.Config{Image: base, Labels: labels}})
	if err != nil {
		return fmt.Errorf("label image %s: %w", base, late(err))
	}
	mctx, late, cancelCommit := limit(ctx, e.doIt)
	defer cancelCommit()
	_, err = e.api.ContainerCommit(mctx, made.ID, client.ContainerCommitOptions{Reference: tag, NoPause: true})
	if err != nil {
		err = fmt.Errorf("label image %s as %s: %w", base, tag, late(err))
	}
	cctx, cancelRemove := interrupt.Cleanup(ctx, removeDeadline)
	defer cancelRemove()
	if rmErr := e.RemoveContainer(cctx, made.ID); rmErr != nil {
		err = joinCleanup(err, rmErr)
	}
	return err
}

// RemoveImage removes a tag, or an image by its ID, and what only that held. One that is gone is no error.
func (e *Engine) RemoveImage(ctx context.Context, ref string) error {
	lctx, late, cancel := limit(ctx, e.doIt)
	defer cancel()
	_, err := e.api.ImageRemove(lctx, ref, client.ImageRemoveOptions{PruneChildren: false})
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove image %s: %w", ref, late(err))
	}
	return nil
}

// Images lists the tags of all images.
func (e *Engine) Images(ctx context.Context) ([]string, error) {
	var out []string
	all, err := e.listImages(ctx, "")
	for _, i := range all {
		out = append(out, i.RepoTags...)
	}
	return out, err
}

// ImagesWith lists the images that carry a label (name or name=value) by their IDs, so also those that have lost their tag.
func (e *Engine) ImagesWith(ctx context.Context, label string) ([]string, error) {
	var out []string
	all, err := e.listImages(ctx, label)
	for _, i := range all {
		out = append(out, i.ID)
	}
	return out, err
}

func (e *Engine) listImages(ctx context.Context, label string) ([]image.Summary, error) {
	lctx, late, cancel := limit(ctx, e.lookUp)
	defer cancel()
	var which client.ImageListOptions
	if label != "" {
		which.Filters = client.Filters{}.Add("label", label)
	}
	r, err := e.api.ImageList(lctx, which)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", late(err))
	}
	return r.Items, nil
}
