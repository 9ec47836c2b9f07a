// Package labs is a lab's life: making it step by step, taking it down, and looking at it. A lab is a kind cluster with
// wirelab's network on it and, usually, a demo. Everything about it is kept in it: labels on its node containers, files on the
// first control plane, and a ConfigMap with the profile in force. Nothing is kept on this machine.
package labs

import (
	"errors"
	"fmt"
	"time"

	"wirelab.dev/wirelab/internal/cluster"
	"wirelab.dev/wirelab/internal/doctor"
	"wirelab.dev/wirelab/profiles"
	"wirelab.dev/wirelab/verify"
)

// Errors that a caller may test for.
var (
	// ErrNotFound means that there is no lab of that name.
	ErrNotFound = errors.New("no such lab")
	// ErrWhich means that the name says no lab: none has it, or it is empty and there are several. It goes with ErrNotFound.
	ErrWhich = errors.New("the name says no lab")
	// ErrPlace means that a name says no node or pod of the lab, or more than one.
	ErrPlace = errors.New("the name says no node and no pod")
	// ErrTaken means that the name is in use by a cluster that is no lab, or by a lab of another profile.
	ErrTaken = errors.New("the name is taken")
	// ErrFixed means that the profile asks of a lab that is up what only a new one can have.
	ErrFixed = errors.New("not while the lab is up")
	// ErrRequirements means that the doctor found something missing.
	ErrRequirements = errors.New("this machine cannot run the lab")
	// ErrNotVerified means that the lab is up and a check did not pass.
	ErrNotVerified = errors.New("the lab is up, but not every check passed")
)

// readyTimeout is how long nodes, agent, DNS and demo may take to become ready once everything is installed, which takes
// about 15 s on two cores, and what works for the API server to be back after that was away.
const readyTimeout = 3 * time.Minute

// UpOptions say what lab to bring up.
type UpOptions struct {
	Profile *profiles.Profile
	// Name is the lab's; empty: the profile's.
	Name string
	// Switch lets a lab of another profile become one of this while it is up.
	Switch bool
	// Kubeconfig is the one kubeconfig that gets the lab's context, by its absolute path; empty: the one it was given last,
	// and for a new lab the user's.
	Kubeconfig string
	// KeepContext leaves the current context of the kubeconfig as it is.
	KeepContext bool
	// Retain leaves what was made when a step fails or the command is interrupted.
	Retain bool
	// SkipVerify leaves out the checks.
	SkipVerify bool
	// ReadyTimeout is for the step that waits; 0: three minutes.
	ReadyTimeout time.Duration
	// Progress is told of steps; may be nil.
	Progress Progress
	// Failed is told what went wrong before what was made is removed; may be nil. Of a lab whose making was interrupted it is
	// told nothing.
	Failed func(*UpResult, error)
}

// UpResult is what [Up] did. It is of use also when Up failed.
type UpResult struct {
	Lab     string `json:"lab"`
	Profile string `json:"profile"`
	// Context is the lab's context in its kubeconfig.
	Context string `json:"context"`
	// Kubeconfig is the file that has it; empty: the user's kubeconfig.
	Kubeconfig string `json:"kubeconfig,omitempty"`
	// Created is set when the cluster was made in this run, not found.
	Created bool `json:"created"`
	// Switched says what changed in a lab that had another profile; nil when none did.
	Switched *Switch      `json:"switched,omitempty"`
	Steps    []StepResult `json:"steps"`
	// Findings are the doctor's.
	Findings []doctor.Finding `json:"findings,omitempty"`
	// Report is that of the checks; nil when they did not run.
	Report *verify.Report `json:"report,omitempty"`
}

// ContextName is a lab's context in its kubeconfig, as kind names it.
func ContextName(lab string) string { return cluster.ContextName(lab) }

func foreign(name string) error {
	return fmt.Errorf("%w: a kind cluster %q exists that wirelab did not make: choose another name with --name, or delete it with kind delete cluster --name %s", ErrTaken, name, name)
}
