package testbed

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// Program is one that is attached to a device.
type Program struct {
	Name string
	// Instructions are counted as the kernel runs them, before they become machine code. Established are
	// those before the first function that the program may call: what is decided about once a flow is
	// functions.
	Instructions, Established int
	// Device and Ingress are where it is attached.
	Device  string
	Ingress bool
	id      ebpf.ProgramID
	ifindex int
}

// attached are the programs on the node's devices, found by asking the kernel.
func (n *Node) attached() ([]Program, error) {
	links, err := n.nl.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list devices of %s: %w", n.name, err)
	}
	var found []Program
	err = n.Do(func() error {
		for _, l := range links {
			for _, hook := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
				at := Program{Device: l.Attrs().Name, Ingress: hook == ebpf.AttachTCXIngress, ifindex: l.Attrs().Index}
				programs, err := at.query(hook)
				if err != nil {
					return err
				}
				found = append(found, programs...)
			}
		}
		return nil
	})
	return found, err
}

// query lists the programs of one hook.
func (p Program) query(hook ebpf.AttachType) ([]Program, error) {
	result, err := link.QueryPrograms(link.QueryOptions{Target: p.ifindex, Attach: hook})
	if err != nil {
		return nil, fmt.Errorf("list programs of %s: %w", p.Device, err)
	}
	var found []Program
	for _, attached := range result.Programs {
		one := p
		one.id = attached.ID
		if err := one.describe(); err != nil {
			return nil, err
		}
		found = append(found, one)
	}
	return found, nil
}

func (p *Program) describe() error {
	info, err := p.info()
	if err != nil {
		return err
	}
	size, err := info.TranslatedSize()
	if err != nil {
		return fmt.Errorf("read the size of %s: %w", info.Name, err)
	}
	functions, err := info.FuncInfos()
	if err != nil {
		return fmt.Errorf("read the functions of %s: %w", info.Name, err)
	}
	p.Name = info.Name
	p.Instructions = size / asm.InstructionSize // a load of 64 bits counts for two
	p.Established = p.Instructions
	for _, f := range functions {
		if f.Offset > 0 {
			p.Established = min(p.Established, int(f.Offset))
		}
	}
	return nil
}

func (p *Program) open() (*ebpf.Program, error) {
	prog, err := ebpf.NewProgramFromID(p.id)
	if err != nil {
		return nil, fmt.Errorf("open program %d of %s: %w", p.id, p.Device, err)
	}
	return prog, nil
}

func (p *Program) info() (*ebpf.ProgramInfo, error) {
	prog, err := p.open()
	if err != nil {
		return nil, err
	}
	defer prog.Close()
	info, err := prog.Info()
	if err != nil {
		return nil, fmt.Errorf("describe program %d of %s: %w", p.id, p.Device, err)
	}
	return info, nil
}

// find returns the program at a device's ingress.
func (n *Node) find(device string) (Program, error) {
	programs, err := n.attached()
	for _, p := range programs {
		if p.Device == device && p.Ingress {
			return p, nil
		}
	}
	if err != nil {
		return Program{}, err
	}
	return Program{}, fmt.Errorf("%w: at the ingress of %s of %s", errNoProgram, device, n.name)
}

// errNoProgram says that a hook is empty.
var errNoProgram = errors.New("there is no program")

// eachMap calls f with every map that the program uses.
func (p *Program) eachMap(f func(*ebpf.Map) error) error {
	info, err := p.info()
	if err != nil {
		return err
	}
	ids, _ := info.MapIDs()
	for _, id := range ids {
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			return fmt.Errorf("open map %d of %s: %w", id, p.Name, err)
		}
		if err := errors.Join(f(m), m.Close()); err != nil {
			return fmt.Errorf("read map %d of %s: %w", id, p.Name, err)
		}
	}
	return nil
}
