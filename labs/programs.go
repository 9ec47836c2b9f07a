package labs

import (
	"golang.org/x/sync/errgroup"

	"wirelab.dev/wirelab/images"
	"wirelab.dev/wirelab/internal/image"
	"wirelab.dev/wirelab/profiles"
)

// programs are the images that nodes need for a profile.
type programs struct {
	agent    *image.Image
	operator *image.Image
	relay    *image.Image // nil where the profile has none
	nettool  *image.Image
}

// buildPrograms writes the images in memory.
func buildPrograms(p *profiles.Profile) (i programs, err error) {
	var g errgroup.Group
	g.Go(func() (err error) { i.agent, err = image.Agent(images.Payload); return err })
	g.Go(func() (err error) { i.operator, err = image.Operator(images.Payload); return err })
	g.Go(func() (err error) { i.nettool, err = image.Nettool(images.Payload); return err })
	if p.Network.Flows.Relay.Enabled {
		g.Go(func() (err error) { i.relay, err = image.Relay(images.Payload); return err })
	}
	err = g.Wait()
	return i, err
}

// all are the images there are.
func (i programs) all() []*image.Image {
	out := []*image.Image{i.agent, i.operator}
	if i.relay != nil {
		out = append(out, i.relay)
	}
	return append(out, i.nettool)
}
