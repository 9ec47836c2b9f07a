package labs

import (
	"context"
	"time"

	"wirelab.dev/wirelab/internal/cluster"
	"wirelab.dev/wirelab/internal/docker"
	"wirelab.dev/wirelab/internal/image"
)

// Summary is a lab in a list, as Docker knows it; the cluster itself is not asked.
type Summary struct {
	Name    string `json:"name"`
	Profile string `json:"profile"`
	// State is "up", "degraded", "stopped" or "half made".
	State string `json:"state"`
	// Down are the nodes that do not run, each with what it is: "x-worker is paused". Nil when all run.
	Down    []string  `json:"down,omitempty"`
	Nodes   []string  `json:"nodes"`
	Image   string    `json:"image"`
	Context string    `json:"context"`
	Created time.Time `json:"created"`
}

// States of a lab in a list.
const (
	StateUp       = "up"
	StateStopped  = "stopped"
	StateDegraded = "degraded" // some nodes run and some do not
	StateHalf     = "half made"
)

// List lists all labs of the Docker engine, sorted by name. It may be empty, never nil.
func List(ctx context.Context) ([]Summary, error) {
	e, err := docker.Connect(ctx)
	if err != nil {
		return nil, err
	}
	defer e.Close()
	all, err := cluster.New(e, nil).List(ctx)
	if err != nil {
		return nil, err
	}
	out := []Summary{}
	for _, c := range all {
		if !c.Lab {
			continue
		}
		s, err := summarize(ctx, c)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

func summarize(ctx context.Context, c *cluster.Cluster) (Summary, error) {
	s := Summary{
		Name: c.Name, Profile: profileName(ctx, c), State: StateUp,
		Image: image.Short(c.Labels[cluster.LabelBase]), Context: ContextName(c.Name), Created: c.Created,
	}
	for _, n := range c.Nodes {
		s.Nodes = append(s.Nodes, n.Name)
	}
	for _, n := range c.Down() {
		s.Down = append(s.Down, n.Name+" "+n.Down())
	}
	complete, err := c.Complete(ctx)
	switch {
	case err != nil:
		return Summary{}, err
	case !complete:
		s.State = StateHalf
	case len(s.Down) == len(c.Nodes):
		s.State = StateStopped
	case len(s.Down) > 0:
		s.State = StateDegraded
	}
	return s, nil
}
