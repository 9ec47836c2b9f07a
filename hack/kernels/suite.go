package main

import "strings"

// suite is what is run of a package.
type suite struct {
	folder  string
	tests   []string // all have to be there
	parts   string   // the tests' parts, where they have some; all when empty
	pattern string   // instead of tests and parts
	without string   // a module of the kernel's that is not loaded when they begin
}

// name is what the suite is called in reports.
func (s suite) name() string {
	if s.without != "" {
		return s.folder + " without " + s.without
	}
	return s.folder
}

func (s suite) regexp() string {
	if s.pattern != "" {
		return s.pattern
	}
	return "^(" + strings.Join(s.tests, "|") + ")$/" + s.parts
}

// chosen are the tests of what depends on the kernel: that the verifier takes all programs in all modes, that they are
// attached and packets delivered, Services at veths, sockets and NICs, masquerading, tunnels, and how an agent takes over from
// the one before it. What is a matter of the programs' own logic is tested under one kernel, and would take too long here.
var chosen = []suite{
	// First, as nothing may use the module.
	{folder: "datapath", without: "nf_conntrack", parts: "^ebpf$", tests: []string{"TestNothingThatTheKernelTranslatesIsStray"}},
	{folder: "internal/netnstest", tests: []string{"TestKernelsHaveWhatTheTableSays"}},
	{folder: "bpf", tests: []string{"TestEveryModeLoads"}},
	{folder: "datapath", parts: "^(kubeproxy|ebpf|vxlan|geneve)$", tests: []string{
		"TestOldKernelsAreRefused", "TestProbe", "TestPathsOfAnEcho", "TestClsactIsMendedAndCleaned", "TestNodePort",
		"TestSocketsAreGivenABackend", "TestMasquerade", "TestUpgradeLosesNoConnection",
		"TestTunnel", "TestTunnelDevice", "TestTunnelPortInUse",
	}},
}
