package profiles

// Problem is one thing wrong with a profile, an environment variable or a --set.
type Problem struct {
	// Source is a file's path, "profile <name>" for a shipped one, an environment
	// variable, "--set", or empty when a default is at fault.
	Source string `json:"source,omitempty"`
	// Line is from 1; 0 when Source has no lines.
	Line int `json:"line,omitempty"`
	// Key is the full path such as network.bpf.monitorAggregation; empty for the file.
	Key     string `json:"key,omitempty"`
	Message string `json:"message"`
	// Nearest is the real key or word that was probably meant; may be empty.
	Nearest string `json:"nearest,omitempty"`
}

// Error is one line: where, which key, what, and what was probably meant.
func (p *Problem) Error() string { return p.Message }

// Problems takes apart the error of [Load] or [Parse]; empty when it has none.
func Problems(err error) []*Problem { return nil }
