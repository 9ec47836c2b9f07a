package bpf_test

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// stackBar is how many bytes of stack a program may use with all that it calls. The kernel takes 512: what is left
// is for those who add to a program.
const stackBar = 300

// stackUnit is what a function's stack is rounded up to, in kernels up to 6.7 and wherever programs are interpreted.
const stackUnit = 32

// What the verifier says of the stack of each function, in their order: in one line, and since kernel 7.3 in a line each.
var (
	stackLine   = regexp.MustCompile(`stack depth ([0-9+]+)`)
	subprogLine = regexp.MustCompile(`(?m)^subprog \d+ .* stack (\d+)$`)
)

// stackDepths are the bytes of stack of each function, as the verifier has them.
func stackDepths(log string) []string {
	var depths []string
	for _, said := range subprogLine.FindAllStringSubmatch(log, -1) {
		depths = append(depths, said[1])
	}
	if said := stackLine.FindStringSubmatch(log); depths == nil && said != nil {
		depths = strings.Split(said[1], "+")
	}
	return depths
}

// checkStack holds the deepest chain of calls of a program, which was loaded with the verifier's statistics, to the bar.
func checkStack(t *testing.T, name string, prog *ebpf.Program, info *ebpf.ProgramInfo) {
	t.Helper()
	depths := stackDepths(prog.VerifierLog)
	if depths == nil {
		t.Fatalf("the verifier says nothing of the stack of %s:\n%s", name, prog.VerifierLog)
	}
	insns, err := info.Instructions()
	must(t, err)
	functions, err := info.FuncInfos()
	must(t, err)
	var names []string
	var starts []asm.RawInstructionOffset
	for _, f := range functions {
		names, starts = append(names, f.Func.Name), append(starts, f.Offset)
	}
	var own []int // of each function, in their order
	for _, depth := range depths {
		n, err := strconv.Atoi(depth)
		must(t, err)
		own = append(own, max(stackUnit, (n+stackUnit-1)/stackUnit*stackUnit))
	}
	if len(own) != len(names) {
		t.Fatalf("the verifier says %q of the functions %v of %s", depths, names, name)
	}
	depth, chain := deepest(0, own, calls(insns, starts))
	var through []string
	for _, f := range chain {
		through = append(through, names[f]+" "+strconv.Itoa(own[f]))
	}
	t.Logf("%s: %d bytes of stack: %s", name, depth, strings.Join(through, ", "))
	if depth > stackBar {
		t.Errorf("%s has %d bytes of stack, more than %d: %s", name, depth, stackBar, strings.Join(through, ", "))
	}
}

// calls are the functions that each function calls, by their order. In a loaded program a call's offset leads to the function.
func calls(insns asm.Instructions, starts []asm.RawInstructionOffset) map[int][]int {
	at := func(offset asm.RawInstructionOffset) int {
		i, found := slices.BinarySearch(starts, offset)
		if !found {
			i--
		}
		return i
	}
	graph := map[int][]int{}
	for iter := insns.Iterate(); iter.Next(); {
		if ins := iter.Ins; ins.IsFunctionCall() {
			from := at(iter.Offset)
			to := at(iter.Offset + 1 + asm.RawInstructionOffset(ins.Offset)) //nolint:gosec // backwards, it wraps around and back
			if !slices.Contains(graph[from], to) {
				graph[from] = append(graph[from], to)
			}
		}
	}
	return graph
}

// deepest is the chain of calls from a function on that takes the most stack.
func deepest(f int, own []int, graph map[int][]int) (depth int, chain []int) {
	for _, callee := range graph[f] {
		if d, c := deepest(callee, own, graph); d > depth {
			depth, chain = d, c
		}
	}
	return depth + own[f], append([]int{f}, chain...)
}
