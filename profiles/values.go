package profiles

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
	if in.Name == "" {
		in.Name = p.Metadata.Name
	}
	if in.APIServerHost == "" {
		in.APIServerHost = in.Name + "-control-plane"
	}
	if in.APIServerPort == 0 {
		in.APIServerPort = 6443
	}
	values := p.Network.Values()
	values["cluster"] = map[string]any{"name": in.Name}
	values["k8sServiceHost"], values["k8sServicePort"] = in.APIServerHost, in.APIServerPort
	if image := in.Agent.values(); len(image) > 0 {
		values["image"] = image
	}
	if image := in.Operator.values(); len(image) > 0 {
		values["operator"] = map[string]any{"image": image}
	}
	if image := in.Relay.values(); len(image) > 0 {
		values["relay"] = map[string]any{"image": image}
	}
	return values
}
