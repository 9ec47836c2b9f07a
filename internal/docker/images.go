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
func (e *Engine) HasImage(ctx context.Context, ref string) (there bool, err error) {
	lctx, done := asking(ctx, e.lookUp, &err)
	defer done("look for image %s", ref)
	_, err = e.api.ImageInspect(lctx, ref)
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// Entrypoint is what containers of an image start with: its entrypoint, and its command where there is no other.
func (e *Engine) Entrypoint(ctx context.Context, ref string) (_ []string, err error) {
	lctx, done := asking(ctx, e.lookUp, &err)
	defer done("inspect image %s", ref)
	r, err := e.api.ImageInspect(lctx, ref)
	if err != nil || r.Config == nil {
		return nil, err
	}
	return slices.Concat(r.Config.Entrypoint, r.Config.Cmd), nil
}

// ImageID is the engine's own name for what an image has in it, empty where there is no such image.
func (e *Engine) ImageID(ctx context.Context, ref string) (_ string, err error) {
	lctx, done := asking(ctx, e.lookUp, &err)
	defer done("inspect image %s", ref)
	r, err := e.api.ImageInspect(lctx, ref)
	if errdefs.IsNotFound(err) {
		return "", nil
	}
	return r.ID, err
}

// TagImage gives an image one more name.
func (e *Engine) TagImage(ctx context.Context, ref, tag string) (err error) {
	lctx, done := asking(ctx, e.doIt, &err)
	defer done("tag image %s as %s", ref, tag)
	_, err = e.api.ImageTag(lctx, client.ImageTagOptions{Source: ref, Target: tag})
	return err
}

// SaveImage writes an image as a docker image archive, in which it has the name ref. A ref with a digest gets none there.
func (e *Engine) SaveImage(ctx context.Context, ref string, archive io.Writer) (err error) {
	lctx, done := asking(ctx, loadDeadline, &err)
	defer done("save image %s", ref)
	r, err := e.api.ImageSave(lctx, []string{ref})
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(archive, r)
	return err
}

// LoadImage reads a docker image archive into the engine.
func (e *Engine) LoadImage(ctx context.Context, archive io.Reader) (err error) {
	lctx, done := asking(ctx, loadDeadline, &err)
	defer done("load image")
	r, err := e.api.ImageLoad(lctx, archive, client.ImageLoadWithQuiet(true))
	if err != nil {
		return err
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
			return err
		case m.Error != "":
			return errors.New(m.Error)
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
	return joinCleanup(err, e.RemoveContainer(cctx, made.ID))
}

// RemoveImage removes a tag, or an image by its ID, and what only that held. One that is gone is no error.
func (e *Engine) RemoveImage(ctx context.Context, ref string) (err error) {
	lctx, done := asking(ctx, e.doIt, &err)
	defer done("remove image %s", ref)
	_, err = e.api.ImageRemove(lctx, ref, client.ImageRemoveOptions{PruneChildren: false})
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
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

func (e *Engine) listImages(ctx context.Context, label string) (_ []image.Summary, err error) {
	lctx, done := asking(ctx, e.lookUp, &err)
	defer done("list images")
	var which client.ImageListOptions
	if label != "" {
		which.Filters = client.Filters{}.Add("label", label)
	}
	r, err := e.api.ImageList(lctx, which)
	return r.Items, err
}
