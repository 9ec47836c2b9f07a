package verify

import (
	"cmp"
	"time"
)

// Config says which lab to look at, and how many checks to run at once.
type Config struct {
	Lab string
	Kind
	// Down are the nodes that do not run, by name, each with what is the matter:
	// "is paused". Checks look at the others.
	Down map[string]string

	Parallel     int           // checks at once, besides as many that have long waited; 0 means DefaultParallel
	CheckTimeout time.Duration // of each check; 0 means DefaultCheckTimeout
	SetupTimeout time.Duration // 0 means DefaultSetupTimeout
	// Progress, if set, is told what happens, one call at a time.
	Progress func(Progress)
}

// Defaults of [Config]. Checks mostly wait, so more of them than there are
// cores make sense.
const (
	DefaultParallel     = 6
	DefaultCheckTimeout = 20 * time.Second
	DefaultSetupTimeout = 40 * time.Second
)

// Progress is one step of a run. Done of Total checks have ended; Result is
// set for a check that just did. Before and after the checks Result is nil and
// Step says what is being prepared or removed.
type Progress struct {
	Step        string
	Done, Total int
	Result      *Result
}

// WithDefaults fills in what is not given.
func (c Config) WithDefaults() Config {
	c.Parallel = cmp.Or(c.Parallel, DefaultParallel)
	c.CheckTimeout = cmp.Or(c.CheckTimeout, DefaultCheckTimeout)
	c.SetupTimeout = cmp.Or(c.SetupTimeout, DefaultSetupTimeout)
	c.Progress = oneAtATime(c.Progress)
	return c
}
