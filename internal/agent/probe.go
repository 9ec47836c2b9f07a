package agent

import (
	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/internal/agent/config"
)

// Probe says what this node's kernel lacks for an agent of these settings, which changes nothing; nil: nothing. It needs an agent's rights.
func Probe(cfg config.Config) error { return datapath.Probe(cfg.Network) }
