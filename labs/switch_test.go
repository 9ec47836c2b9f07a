package labs

import (
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"wirelab.dev/wirelab/internal/cluster"
	"wirelab.dev/wirelab/internal/settings"
	"wirelab.dev/wirelab/profiles"
)

func TestBecomes(t *testing.T) {
	shipped := func(name string, set ...string) *profiles.Profile {
		t.Helper()
		p, err := profiles.Load(name, profiles.Options{Set: set})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	renamed := profile(t)
	renamed.Metadata.Name = "other"
	const ebpf, replaced = "ebpf", "kubeproxy-replacement"
	for name, tt := range map[string]struct {
		was, now *profiles.Profile
		allowed  bool
		is       error
		say      string // a part of the error, or of what changes
	}{
		"the same":        {profile(t), profile(t), false, nil, ""},
		"network setting": {profile(t), profile(t, "network.debug.enabled=true"), false, nil, ""},
		"demo off":        {profile(t), profile(t, "demo.enabled=false"), false, nil, ""},
		"taint":           {profile(t), profile(t, "cluster.removeControlPlaneTaint=false"), false, nil, ""},
		"more workers":    {profile(t), profile(t, "cluster.workers=4"), true, ErrFixed, "cluster.workers from 2 to 4 (the cluster is made with it)"},
		"another image":   {profile(t), profile(t, "cluster.image=my/node:1"), false, ErrFixed, "cluster.image from none to my/node:1 (the cluster is made with it)"},
		"two reasons":     {profile(t), profile(t, "cluster.workers=4", "network.mtu=1400", "demo.port=81"), false, ErrFixed, "cluster.workers from 2 to 4, network.mtu from 0 to 1400 (the cluster is made with it; pods keep the MTU that they began with): leave that as it is"},

		"another profile":             {shipped(replaced), shipped(ebpf), false, ErrTaken, "has profile kubeproxy-replacement, and ebpf changes network.bpf.masquerade from false to true: do that to it while it is up with --switch"},
		"another profile, allowed":    {shipped(replaced), shipped(ebpf), true, nil, "network.bpf.masquerade from false to true"},
		"and back":                    {shipped(ebpf), shipped(replaced), true, nil, "network.bpf.masquerade from true to false"},
		"another name":                {profile(t), renamed, false, ErrTaken, "other changes no setting: do that"},
		"another name, allowed":       {profile(t), renamed, true, nil, "no setting"},
		"kube-proxy":                  {shipped("kubeproxy"), shipped(ebpf), true, ErrTaken, "it cannot change cluster.kubeProxyMode, network.kubeProxyReplacement while it is up (the cluster is made with it): take it down first"},
		"a tunnel":                    {shipped(ebpf), shipped("vxlan"), true, ErrTaken, "it cannot change network.routingMode while it is up (nodes change one by one"},
		"another tunnel":              {shipped("vxlan"), shipped("geneve"), true, ErrTaken, "it cannot change network.tunnelProtocol"},
		"the MTU":                     {shipped(replaced), shipped(ebpf, "network.mtu=1400"), true, ErrTaken, "it cannot change network.mtu"},
		"pool":                        {shipped(replaced), shipped(ebpf, "network.ipam.operator.clusterPoolIPv4MaskSize=25"), true, ErrTaken, "podCIDRs"},
		"more workers, and not asked": {shipped(replaced), shipped(ebpf, "cluster.workers=4"), false, ErrTaken, "it cannot change cluster.workers"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := becomes("x", tt.was, tt.now, tt.allowed)
			if !errors.Is(err, tt.is) {
				t.Fatalf("error = %v, want %v", err, tt.is)
			}
			switch {
			case err != nil:
				if s != nil || !strings.Contains(err.Error(), tt.say) || !strings.Contains(err.Error(), "lab down x") {
					t.Errorf("error = %v, want it to say %q and the way out", err, tt.say)
				}
			case tt.was.Metadata.Name == tt.now.Metadata.Name:
				if s != nil {
					t.Errorf("a lab that keeps its profile is switched: %s", s)
				}
			case s.String() != tt.say || s.From != tt.was.Metadata.Name:
				t.Errorf("it changes %s, from %s; want %s", s, s.From, tt.say)
			}
		})
	}
}

// TestBecomesKnowsEverySetting gives each setting another value. A lab that is up takes it, or refuses it by its name with the
// reason that the table of keys has, and the way out.
func TestBecomesKnowsEverySetting(t *testing.T) {
	said := map[string]profiles.Doc{}
	var read func(d profiles.Doc)
	read = func(d profiles.Doc) {
		said[d.Key] = d
		for _, c := range d.Children {
			read(c)
		}
	}
	all, err := profiles.Explain("")
	if err != nil {
		t.Fatal(err)
	}
	read(all)
	stay, change := 0, 0
	for key := range profile(t).Settings() {
		doc := said[key]
		if doc.Set == "" { // the file's own, which no lab is held to
			continue
		}
		other := profile(t)
		differ(t, reflect.ValueOf(other).Elem(), strings.Split(key, "."))
		_, err := becomes("x", profile(t), other, false)
		if doc.Stays == "" {
			change++
			if err != nil {
				t.Errorf("%s can change, and is refused: %v", key, err)
			}
			continue
		}
		stay++
		if !errors.Is(err, ErrFixed) {
			t.Errorf("%s cannot change, and is not refused: %v", key, err)
			continue
		}
		for _, want := range []string{key + " from ", "(" + doc.Stays + ")", "lab down x", "--name"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want it to say %q", key, err, want)
			}
		}
	}
	if stay < 10 || change < 20 {
		t.Errorf("%d settings stay and %d can change: this has not tried them", stay, change)
	}
}

// differ gives the setting at a path another value, whatever is allowed.
func differ(t *testing.T, v reflect.Value, path []string) {
	t.Helper()
	for ; len(path) > 0; path = path[1:] {
		i := slices.IndexFunc(reflect.VisibleFields(v.Type()), func(f reflect.StructField) bool {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			return name == path[0]
		})
		if i < 0 {
			t.Fatalf("%s has no %s", v.Type(), path[0])
		}
		v = v.FieldByIndex(reflect.VisibleFields(v.Type())[i].Index)
	}
	switch was := v.Interface().(type) {
	case netip.Prefix:
		v.Set(reflect.ValueOf(netip.PrefixFrom(was.Addr(), was.Bits()-1)))
		return
	case settings.Duration:
		v.Set(reflect.ValueOf(settings.Duration{Duration: was.Duration + time.Second}))
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Int, reflect.Int64:
		v.SetInt(v.Int() + 1)
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Slice:
		v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
	default:
		t.Fatalf("this does not know another %s", v.Type())
	}
}

func TestProfileThatCannotBeRead(t *testing.T) {
	c := made(t, profile(t))
	c.Labels[cluster.LabelMadeFrom] = "not: a profile"
	if _, err := inForce(t.Context(), c); err == nil || !strings.Contains(err.Error(), "lab down x") {
		t.Errorf("error = %v, want the way out", err)
	}
	if name := profileName(t.Context(), c); name != "kubeproxy" {
		t.Errorf("its name is %q", name)
	}
}
