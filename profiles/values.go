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
// string, int and []any below, as Helm wants them.
func (p *Profile) Values(in Install) map[string]any { return nil }
