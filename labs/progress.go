package labs

import "time"

// StepState is how far a step is.
type StepState string

// The states of a step. A cancelled one was cut short by another's failure or by an interrupt.
const (
	StepRunning   StepState = "running"
	StepDone      StepState = "done"
	StepFailed    StepState = "failed"
	StepCancelled StepState = "cancelled"
	StepUndoing   StepState = "undoing"
)

// Event is something that happened to a step. Several steps may run at once.
type Event struct {
	Step  string    `json:"step"`
	State StepState `json:"state"`
	// Note is what a running step is at, or what a finished one came to; may be empty.
	Note string `json:"note,omitempty"`
	// Duration is the time since the step began. In JSON it is in nanoseconds.
	Duration time.Duration `json:"durationNs"`
}

// Progress is told of events. It may be called from several goroutines at once.
type Progress func(Event)

// StepResult is how a step ended.
type StepResult struct {
	Name  string    `json:"name"`
	State StepState `json:"state"`
	Note  string    `json:"note,omitempty"`
	// Duration is in nanoseconds in JSON.
	Duration time.Duration `json:"durationNs"`
}
