package profiles

// Install is what the chart needs to know and no profile can say.
type Install struct {
	// Name is the lab's; empty: the profile's.
	Name string
	// APIServerHost and APIServerPort are where the agent reaches the API server before
	// Services work; empty and 0: <name>-control-plane and 6443.
	APIServerHost string
	APIServerPort int
	// ImageRepository and ImageTag are the agent's image; empty: the chart's own.
	ImageRepository, ImageTag string
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
	image := map[string]any{}
	if in.ImageRepository != "" {
		image["repository"] = in.ImageRepository
	}
	if in.ImageTag != "" {
		image["tag"] = in.ImageTag
	}
	if len(image) > 0 {
		values["image"] = image
	}
	return values
}
