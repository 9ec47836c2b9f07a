package profiles

import "cmp"

// Install is what the chart needs to know and no profile can say.
type Install struct {
	// Name is the lab's; empty: the profile's.
	Name string
	// APIServerHost and APIServerPort are where the agent reaches the API server before
	// Services work; empty and 0: <name>-control-plane and 6443.
	APIServerHost string
	APIServerPort int
	// Agent, Operator and Relay are the images; what is empty is the chart's own.
	Agent, Operator, Relay Image
}

// Image is a container image without its registry's name in front.
type Image struct{ Repository, Tag string }

func (i Image) values() map[string]any {
	values := map[string]any{}
	if i.Repository != "" {
		values["repository"] = i.Repository
	}
	if i.Tag != "" {
		values["tag"] = i.Tag
	}
	return values
}

// Values are the chart's values for the profile: its network's, see [settings.Network.Values], and what in says.
func (p *Profile) Values(in Install) map[string]any {
	name := cmp.Or(in.Name, p.Metadata.Name)
	values := p.Network.Values()
	values["cluster"] = map[string]any{"name": name}
	values["k8sServiceHost"] = cmp.Or(in.APIServerHost, name+"-control-plane")
	values["k8sServicePort"] = cmp.Or(in.APIServerPort, 6443)
	if image := in.Agent.values(); len(image) > 0 {
		values["image"] = image
	}
	for part, of := range map[string]Image{"operator": in.Operator, "relay": in.Relay} {
		if image := of.values(); len(image) > 0 {
			values[part] = map[string]any{"image": image}
		}
	}
	return values
}
