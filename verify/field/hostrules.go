package field

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"wirelab.dev/wirelab/internal/interrupt"
	"wirelab.dev/wirelab/verify"
)

// Targets of rules.
const (
	Drop   = "DROP"
	accept = "ACCEPT"
)

// Hook is a chain of a node's iptables that packets pass, after its table.
type Hook string

const (
	RawPrerouting     Hook = "raw PREROUTING"
	ManglePrerouting  Hook = "mangle PREROUTING"
	MangleInput       Hook = "mangle INPUT"
	MangleForward     Hook = "mangle FORWARD"
	FilterForward     Hook = "filter FORWARD"
	MangleOutput      Hook = "mangle OUTPUT"
	ManglePostrouting Hook = "mangle POSTROUTING"
)

// Table is the name of h's table, as iptables -t takes it.
func (h Hook) Table() string { table, _, _ := strings.Cut(string(h), " "); return table }

// Chain is the name of h's chain in its table.
func (h Hook) Chain() string { _, chain, _ := strings.Cut(string(h), " "); return chain }

// String writes h as people speak of it: the table is left out where it is the
// one that iptables takes by itself.
func (h Hook) String() string { return strings.TrimPrefix(string(h), "filter ") }

// ruleComment marks rules a run adds, so that those of an interrupted run are
// found. It must be in no name of what a run makes: kube-proxy's rules have
// the names of Services in their comments.
const ruleComment = "lab-verify-rule"

// Tripwire is one rule in front of all others of its chain.
type Tripwire struct {
	Hook
	match string // as iptables takes it
	// target is what becomes of a packet; empty where it is only counted.
	target string
	// key tells rules of one flow from those of others; several may share it.
	key string
}

// Tripwires are the rules of one check, the same on every node.
type Tripwires struct {
	id    string // of the check's run
	nodes []*Node
	Rules []Tripwire
}

func (w Tripwires) tag() string { return ruleComment + " " + w.id }

// laid adds the rules, calls look and removes them again, also when ctx ended.
func (w Tripwires) laid(ctx context.Context, look func() error) (err error) {
	defer func() {
		ctx, cancel := interrupt.Cleanup(ctx, verify.CleanupTimeout)
		defer cancel()
		err = errors.Join(err, verify.Each(w.nodes, func(n *Node) error { return w.remove(ctx, n) }))
	}()
	script := w.script("-I")
	if err := verify.Each(w.nodes, func(n *Node) error { return runOn(ctx, n.Peer, script) }); err != nil {
		return fmt.Errorf("add rules to iptables: %w", err)
	}
	return look()
}

// remove removes the rules from a node. Where some are not found, those that the node shows are removed.
func (w Tripwires) remove(ctx context.Context, node *Node) error {
	if runOn(ctx, node.Peer, w.script("-D")) == nil {
		return nil
	}
	return runOn(ctx, node.Peer, removeRulesScript(w.tag()))
}

// script adds (-I) or deletes (-D) all rules at once: a command for each would take a second.
func (w Tripwires) script(verb string) string {
	byTable, tables := map[string][]string{}, []string{}
	for _, r := range w.Rules {
		if _, known := byTable[r.Table()]; !known {
			tables = append(tables, r.Table())
		}
		line := fmt.Sprintf(`%s %s %s -m comment --comment "%s %s"`, verb, r.Chain(), r.match, w.tag(), r.key)
		if r.target != "" {
			line += " -j " + r.target
		}
		byTable[r.Table()] = append(byTable[r.Table()], line)
	}
	var b strings.Builder
	b.WriteString("iptables-restore --wait 5 --noflush <<'END'\n")
	for _, table := range tables {
		fmt.Fprintf(&b, "*%s\n%s\nCOMMIT\n", table, strings.Join(byTable[table], "\n"))
	}
	b.WriteString("END\n")
	return b.String()
}

// savedRules is the shell function saved, which prints what iptables-save does. The kernel lists a chain of nf_tables in
// parts: when somebody adds or deletes rules meanwhile, others are there twice, or missing. What two looks in a row agree
// about is what is there.
const savedRules = `saved() {
	before=$(iptables-save "$@") || return
	for look in 1 2 3 4 5 6 7 8 9 10 11 12; do
		now=$(iptables-save "$@") || return
		if [ "$(echo "$before" | uncounted)" = "$(echo "$now" | uncounted)" ]; then
			echo "$now"
			return
		fi
		before=$now
	done
	echo "iptables-save: somebody changes the rules all the time" >&2
	return 1
}
uncounted() { sed -e '/^#/d' -e 's/\[[0-9]*:[0-9]*\]//g'; }
`

// CountsCommand prints the rules and what each has counted.
var CountsCommand = []string{"iptables-save", "-c"}

// removeRulesScript removes the rules whose comment has the tag. iptables-restore lists a chain as iptables-save does, and
// finds no rule to delete that was missing in its list: it is asked again.
func removeRulesScript(tag string) string {
	return fmt.Sprintf(savedRules+`for look in 1 2 3 4 5 6; do
	all=$(saved) || exit
	found=$(echo "$all" | sed -n -e '/^\*/p' -e '/"%s /s/^-A /-D /p' -e '/^COMMIT/p')
	case "$found" in *"-D "*) ;; *) exit 0 ;; esac
	said=$(echo "$found" | iptables-restore --wait 5 --noflush 2>&1) && exit 0
done
echo "$said" >&2
exit 1`, tag)
}

// Counted is where a rule is and the key of its flow.
type Counted struct {
	Hook
	Key string
}

// looksAtCounts is how often rules are read until all are there: see savedRules.
const looksAtCounts = 12

// counts reads how many packets the rules on a node have counted.
func (w Tripwires) counts(ctx context.Context, node *Node) (map[Counted]int, error) {
	shown := 0
	for range looksAtCounts {
		text, err := Output(ctx, node.Peer, CountsCommand...)
		if err != nil {
			return nil, err
		}
		found, rules, err := readCounts(text, w.tag())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", node.Name, err)
		}
		if w.areAll(rules) {
			return found, nil
		}
		shown = len(rules)
	}
	return nil, fmt.Errorf("%s: iptables-save shows %d rules, and %d were added", node.Name, shown, len(w.Rules))
}

// areAll tells whether these are the rules that were added, each once.
func (w Tripwires) areAll(rules []string) bool {
	slices.Sort(rules)
	return len(rules) == len(w.Rules) && len(slices.Compact(rules)) == len(w.Rules)
}

// countsOf reads the counts on every node, by the node's name.
func (w Tripwires) countsOf(ctx context.Context, into map[string]map[Counted]int) error {
	for _, node := range w.nodes {
		counts, err := w.counts(ctx, node)
		if err != nil {
			return err
		}
		into[node.Node] = counts
	}
	return nil
}

var countedRule = regexp.MustCompile(`^\[(\d+):\d+\] -A (\S+) .*--comment "([^"]*)"`)

// readCounts reads what iptables-save -c prints of rules with the tag, and gives
// their text, with the table and without the counters.
func readCounts(text, tag string) (found map[Counted]int, rules []string, err error) {
	found = map[Counted]int{}
	table := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "*"); ok {
			table = name
		}
		rule := countedRule.FindStringSubmatch(line)
		if rule == nil {
			continue
		}
		key, ours := strings.CutPrefix(rule[3], tag+" ")
		if !ours {
			continue
		}
		packets, err := strconv.Atoi(rule[1])
		if err != nil {
			return nil, nil, fmt.Errorf("read the counter in %q: %w", line, err)
		}
		_, text, _ := strings.Cut(line, "] ")
		rules = append(rules, table+" "+text)
		found[Counted{Hook(table + " " + rule[2]), key}] += packets
	}
	return found, rules, nil
}
