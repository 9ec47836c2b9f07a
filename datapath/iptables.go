package datapath

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	stdmaps "maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	iptablesTimeout = 30 * time.Second
	// lockSeconds is how long iptables waits for others that are changing the tables.
	lockSeconds = "10"
)

// iptables runs the node's own iptables, so that the rules are in the variant (nf_tables or legacy) that
// the node's own iptables-save shows.
type iptables struct {
	// root is where the node's root file system is mounted; empty when it is this process's own.
	root string
	// table is the one that is read and written; empty means nat.
	table string
	// dirs are searched for the programs, below root; nil means the usual ones.
	dirs []string
}

var errNoIPTables = errors.New("it is not installed on the node")

var programDirs = []string{"/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"}

// natTable is what iptables-save says about the nat table: the rules of each chain, in order, without
// their "-A <chain> ".
type natTable map[string][]string

// chain is a chain of ours with all of its rules, written the way iptables-save prints them.
type chain struct {
	name  string
	rules []string
}

// ownChains are our chains for one purpose, in one table.
type ownChains struct {
	purpose, table string
	names          []string
}

var (
	masqueradeChains = ownChains{"masquerading", "nat", []string{masqueradeChain}}
	hostPortChains   = ownChains{"host ports", "nat", []string{hostPortChain, hostPortSNATChain}}
	untrackedChains  = ownChains{"what is not tracked", "raw", []string{untrackedChain}}
)

func (c ownChains) remove(ctx context.Context, root string) error {
	if err := (iptables{root: root, table: c.table}).remove(ctx, c.names...); err != nil {
		return fmt.Errorf("remove %s: %w", c.purpose, err)
	}
	return nil
}

func (d *Datapath) iptables(table string) iptables {
	return iptables{root: d.cfg.HostRoot, table: table}
}

func (d *Datapath) removeChains(ctx context.Context, c ownChains) error {
	d.chains.Lock()
	defer d.chains.Unlock()
	return c.remove(ctx, d.cfg.HostRoot)
}

// jump is the rule that leads from a chain of the kernel's to one of ours.
type jump struct{ from, rule string }

func (t iptables) readNAT(ctx context.Context) (natTable, error) {
	out, err := t.save(ctx)
	if err != nil {
		return nil, err
	}
	return parseNAT(out), nil
}

// looks are how often the rules are read while others change them.
const looks = 12

// save is what iptables-save prints of the table. The kernel lists a chain of nf_tables in parts: when somebody adds or
// deletes rules meanwhile, others are there twice, or missing. What is there is what it prints while the generation of the rules
// stays what it was, or, where the kernel does not tell that, what two looks in a row agree about.
func (t iptables) save(ctx context.Context) (string, error) {
	before := ""
	for range looks {
		was, counted := rulesGeneration()
		out, err := t.run(ctx, "", "iptables-save", "-t", t.tableName())
		if err != nil {
			return "", err
		}
		if is, still := rulesGeneration(); counted && still && is == was {
			return out, nil
		}
		now := uncounted.ReplaceAllString(out, "")
		if now == before {
			return out, nil
		}
		before = now
	}
	return "", fmt.Errorf("read table %s of the node's iptables: somebody changes it all the time", t.tableName())
}

// rulesGeneration is the number that each transaction of nf_tables raises, in this thread's network namespace; not ok where the
// kernel does not tell it. What iptables-legacy prints is of one moment anyway.
func rulesGeneration() (id uint32, ok bool) {
	req := nl.NewNetlinkRequest(nfnlSubsysNFTables<<8|unix.NFT_MSG_GETGEN, 0)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC, Version: nl.NFNETLINK_V0})
	answers, err := req.Execute(unix.NETLINK_NETFILTER, nfnlSubsysNFTables<<8|unix.NFT_MSG_NEWGEN)
	if err != nil || len(answers) != 1 || len(answers[0]) < nl.SizeofNfgenmsg {
		return 0, false
	}
	value := attribute(answers[0][nl.SizeofNfgenmsg:], unix.NFTA_GEN_ID)
	if len(value) != 4 {
		return 0, false
	}
	return binary.BigEndian.Uint32(value), true
}

// uncounted is what differs from look to look: when it was, and how many packets chains have seen.
var uncounted = regexp.MustCompile(`(?m)^#.*\n|\[\d+:\d+\]`)

func (t iptables) tableName() string { return cmp.Or(t.table, "nat") }

func parseNAT(saved string) natTable {
	table := natTable{}
	for line := range strings.Lines(saved) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, ":"); ok {
			name, _, _ = strings.Cut(name, " ")
			table[name] = nil
		}
		if rest, ok := strings.CutPrefix(line, "-A "); ok {
			name, rule, _ := strings.Cut(rest, " ")
			table[name] = append(table[name], rule)
		}
	}
	return table
}

// ensure makes the chains and the jumps to them be as wanted. It runs iptables-restore when something
// differs, with that alone, in one transaction.
func (t iptables) ensure(ctx context.Context, chains []chain, jumps []jump) (changed bool, err error) {
	have, err := t.readNAT(ctx)
	if err != nil {
		return false, err
	}
	lines := difference(have, chains, jumps)
	return len(lines) > 0, t.restoreNAT(ctx, lines)
}

// difference are the lines of iptables-restore that make the table as wanted.
func difference(have natTable, chains []chain, jumps []jump) []string {
	var lines []string
	for _, c := range chains {
		rules, ok := have[c.name]
		if ok && slices.Equal(rules, c.rules) {
			continue
		}
		lines = append(lines, ":"+c.name+" - [0:0]") // makes the chain, or empties it
		for _, rule := range c.rules {
			lines = append(lines, "-A "+c.name+" "+rule)
		}
	}
	for _, c := range chains {
		lines = append(lines, jumpDifference(have, c.name, jumps)...)
	}
	return lines
}

func jumpDifference(have natTable, target string, jumps []jump) []string {
	var wanted []jump
	for _, j := range jumps {
		if jumpsTo(j.rule, target) {
			wanted = append(wanted, j)
		}
	}
	var lines []string
	for _, from := range slices.Sorted(stdmaps.Keys(have)) {
		for _, rule := range have[from] {
			if !jumpsTo(rule, target) {
				continue
			}
			if i := slices.Index(wanted, jump{from, rule}); i >= 0 {
				wanted = slices.Delete(wanted, i, i+1)
				continue
			}
			lines = append(lines, "-D "+from+" "+rule)
		}
	}
	for _, j := range wanted {
		lines = append(lines, "-A "+j.from+" "+j.rule)
	}
	return lines
}

// remove deletes chains and what jumps to them; chains that do not exist are no error.
func (t iptables) remove(ctx context.Context, names ...string) error {
	have, err := t.readNAT(ctx)
	if err != nil {
		return err
	}
	var lines []string
	for _, name := range names {
		lines = append(lines, jumpDifference(have, name, nil)...)
	}
	for _, name := range names {
		if _, ok := have[name]; ok {
			lines = append(lines, "-F "+name, "-X "+name)
		}
	}
	return t.restoreNAT(ctx, lines)
}

func jumpsTo(rule, target string) bool { return valueOf(rule, "-j") == target }

// valueOf is the word after a flag of a rule; empty when there is none.
func valueOf(rule, flag string) string {
	fields := strings.Fields(rule)
	if i := slices.Index(fields, flag); i >= 0 && i+1 < len(fields) {
		return fields[i+1]
	}
	return ""
}

func (t iptables) restoreNAT(ctx context.Context, lines []string) error {
	if len(lines) == 0 {
		return nil
	}
	script := "*" + t.tableName() + "\n" + strings.Join(lines, "\n") + "\nCOMMIT\n"
	_, err := t.run(ctx, script, "iptables-restore", "--noflush", "--wait", lockSeconds)
	return err
}

// backend is iptables' own word for its variant: "nf_tables" or "legacy".
func (t iptables) backend(ctx context.Context) (string, error) {
	out, err := t.run(ctx, "", "iptables", "--version")
	if err != nil {
		return "", err
	}
	_, word, ok := strings.Cut(strings.TrimSpace(out), "(")
	if !ok {
		return "legacy", nil // before 1.8 there was no other
	}
	return strings.TrimSuffix(word, ")"), nil
}

func (t iptables) run(ctx context.Context, stdin, program string, args ...string) (string, error) {
	path, err := t.find(program)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, iptablesTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Dir = strings.NewReader(stdin), &stdout, &stderr, "/"
	if t.root != "" {
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: t.root}
	}
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("run %s %s: %w: %s", program, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// find is the program's path below root. Links are not followed: they may be absolute, and lead
// somewhere only once root is the root.
func (t iptables) find(program string) (string, error) {
	dirs := t.dirs
	if dirs == nil {
		dirs = programDirs
	}
	for _, dir := range dirs {
		path := filepath.Join(dir, program)
		if _, err := os.Lstat(filepath.Join(t.root, path)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("find %s: %w: install iptables there", program, errNoIPTables)
}
