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

// Values are the chart's values for the profile: nested map[string]any with bool,
// string, int and []any below, as Helm wants them. An MTU of 0, no device and no
// native-routing CIDR are passed on as such.
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
	n := p.Network
	devices := make([]any, len(n.Devices))
	for i, name := range n.Devices {
		devices[i] = name
	}
	values := map[string]any{
		"routingMode":           n.RoutingMode,
		"autoDirectNodeRoutes":  n.AutoDirectNodeRoutes,
		"ipv4NativeRoutingCIDR": written(n.IPv4NativeRoutingCIDR),
		"kubeProxyReplacement":  n.KubeProxyReplacement,
		"enableIPv4Masquerade":  n.EnableIPv4Masquerade,

		"installNoConntrackIptablesRules": n.InstallNoConntrackIptablesRules,
		"bpf": map[string]any{
			"monitorAggregation": n.BPF.MonitorAggregation, "masquerade": n.BPF.Masquerade,
			"hostLegacyRouting": n.BPF.HostLegacyRouting, "allowFallback": n.BPF.AllowFallback,
			"ctMax": n.BPF.CTMax,
		},
		"ipam":           map[string]any{"mode": n.IPAM.Mode},
		"MTU":            n.MTU,
		"devices":        devices,
		"debug":          map[string]any{"enabled": n.Debug.Enabled, "verbose": n.Debug.Verbose},
		"cluster":        map[string]any{"name": in.Name},
		"k8sServiceHost": in.APIServerHost,
		"k8sServicePort": in.APIServerPort,
	}
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
