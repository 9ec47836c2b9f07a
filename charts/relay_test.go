package charts_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"wirelab.dev/wirelab/internal/api"
)

const (
	withRelay = "flows: {relay: {enabled: true, agentPort: 4250}}"
	withTLS   = "flows: {relay: {enabled: true, tls: true}}"
)

// certificate is what is in a Secret's file.
func certificate(t *testing.T, s *corev1.Secret, file string) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(s.Data[file])
	if block == nil {
		t.Fatalf("%s of %s is no PEM", file, s.Name)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestRelayIsOffByDefault: there is nothing of it, and agents listen nowhere for it.
func TestRelayIsOffByDefault(t *testing.T) {
	of := func(values string) (found []string) {
		for key := range objects(t, values) {
			if strings.Contains(key, "relay") {
				found = append(found, key)
			}
		}
		slices.Sort(found)
		return found
	}
	if found := of(""); len(found) > 0 {
		t.Errorf("there is %v", found)
	}
	if found := of("flows: {relay: {enabled: true}}"); !slices.Equal(found, []string{
		"ClusterRole/wirelab-relay", "ClusterRoleBinding/wirelab-relay", "Deployment/wirelab-relay", "Secret/wirelab-relay", "Secret/wirelab-relay-agent", "Service/wirelab-relay", "ServiceAccount/wirelab-relay",
	}) {
		t.Errorf("with it there is %v", found)
	}
	ports := func(values string) (names []string) {
		for _, p := range get[*appsv1.DaemonSet](t, objects(t, values), daemonSet).Spec.Template.Spec.Containers[0].Ports {
			if p.Name == "relay" && (p.HostPort != 4250 || p.ContainerPort != 4250) {
				t.Errorf("the agent's port is %+v", p)
			}
			names = append(names, p.Name)
		}
		return names
	}
	if got := ports(""); slices.Contains(got, "relay") {
		t.Errorf("agents have ports %v", got)
	}
	if got := ports(withRelay); !slices.Contains(got, "relay") {
		t.Errorf("with it agents have ports %v", got)
	}
}

// TestRelayHasTheLeastPrivileges holds what it may ask of the API server, its process, and who gets which key.
func TestRelayHasTheLeastPrivileges(t *testing.T) {
	objs := objects(t, withTLS)
	if got, want := get[*rbacv1.ClusterRole](t, objs, "ClusterRole/wirelab-relay").Rules, []rbacv1.PolicyRule{
		{APIGroups: []string{"wirelab.dev"}, Resources: []string{"labnodes"}, Verbs: []string{"list", "watch"}},
	}; !reflect.DeepEqual(got, want) {
		t.Errorf("rights %v, want %v", got, want)
	}
	binding := get[*rbacv1.ClusterRoleBinding](t, objs, "ClusterRoleBinding/wirelab-relay")
	if want := []rbacv1.Subject{{Kind: "ServiceAccount", Name: "wirelab-relay", Namespace: "kube-system"}}; binding.RoleRef.Name != "wirelab-relay" || !reflect.DeepEqual(binding.Subjects, want) {
		t.Errorf("it binds %v", binding.Subjects)
	}
	pod := get[*appsv1.Deployment](t, objs, "Deployment/wirelab-relay").Spec.Template.Spec
	sc := pod.Containers[0].SecurityContext
	if pod.HostNetwork || pod.HostPID || pod.HostIPC || *sc.Privileged || *sc.AllowPrivilegeEscalation || !*sc.ReadOnlyRootFilesystem || !*sc.RunAsNonRoot ||
		!slices.Equal(sc.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(sc.Capabilities.Add) > 0 {
		t.Errorf("the relay's pod is %+v, its rights %+v", pod, sc)
	}
	secrets := func(pod corev1.PodSpec) (names []string) {
		for _, v := range pod.Volumes {
			if v.Secret != nil {
				names = append(names, v.Secret.SecretName)
				if !*v.Secret.Optional || *v.Secret.DefaultMode&0o7 != 0 {
					t.Errorf("volume %+v", v.Secret)
				}
			}
		}
		return names
	}
	if got := secrets(pod); !slices.Equal(got, []string{"wirelab-relay", "wirelab-relay-server"}) {
		t.Errorf("the relay has %v", got)
	}
	if got := secrets(get[*appsv1.DaemonSet](t, objs, daemonSet).Spec.Template.Spec); !slices.Equal(got, []string{"wirelab-relay-agent"}) {
		t.Errorf("agents have %v", got)
	}
	if args := strings.Join(pod.Containers[0].Args, " "); args != "--cluster-name=default --agent-port=4244 --tls=/etc/wirelab-relay-server" {
		t.Errorf("arguments are %s", args)
	}
}

// TestCertificates: those of a pair are of one CA that has signed nothing else, and have the names that are asked for.
func TestCertificates(t *testing.T) {
	objs := objects(t, withTLS)
	pairs := [][2]string{{api.AgentCertSecret, api.RelayCertSecret}, {"wirelab-relay-server", "wirelab-relay-client"}}
	names := map[string][]string{
		api.AgentCertSecret: {api.AgentCertName}, api.RelayCertSecret: {api.RelayCertName},
		"wirelab-relay-server": {"wirelab-relay", "wirelab-relay.kube-system", "wirelab-relay.kube-system.svc", "localhost", "127.0.0.1"}, "wirelab-relay-client": {"client.wirelab-relay"},
	}
	roots := make([]*x509.CertPool, len(pairs))
	for i, pair := range pairs {
		roots[i] = x509.NewCertPool()
		roots[i].AddCert(certificate(t, get[*corev1.Secret](t, objs, "Secret/"+pair[0]), "ca.crt"))
	}
	for i, pair := range pairs {
		for _, name := range pair {
			s := get[*corev1.Secret](t, objs, "Secret/"+name)
			c := certificate(t, s, "tls.crt")
			usages := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
			if _, err := c.Verify(x509.VerifyOptions{Roots: roots[i], KeyUsages: usages}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if _, err := c.Verify(x509.VerifyOptions{Roots: roots[1-i], KeyUsages: usages}); err == nil {
				t.Errorf("%s is of both CAs", name)
			}
			for _, host := range names[name] {
				if err := c.VerifyHostname(host); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			if time.Until(c.NotAfter) < 9*365*24*time.Hour || c.IsCA || len(s.Data) != 3 || s.Type != corev1.SecretTypeTLS {
				t.Errorf("%s: until %s, CA %v, %d files, type %s", name, c.NotAfter, c.IsCA, len(s.Data), s.Type)
			}
		}
	}
}

// TestCertificatesAreKept: where the chart is rendered without a cluster, all certificates are new each time. Where there are
// Secrets, they stay as they are; those of a pair are made anew together if one is gone, or if they are of two CAs.
func TestCertificatesAreKept(t *testing.T) {
	names := []string{api.AgentCertSecret, api.RelayCertSecret, "wirelab-relay-server", "wirelab-relay-client"}
	of := func(objs map[string]runtime.Object) map[string]*corev1.Secret {
		t.Helper()
		found := map[string]*corev1.Secret{}
		for _, name := range names {
			found[name] = get[*corev1.Secret](t, objs, "Secret/"+name)
		}
		return found
	}
	first, second := of(objects(t, withTLS)), of(objects(t, withTLS))
	for _, name := range names {
		for _, file := range []string{"ca.crt", "tls.crt", "tls.key"} {
			if bytes.Equal(first[name].Data[file], second[name].Data[file]) {
				t.Errorf("%s of %s is the same in two renderings without a cluster", file, name)
			}
		}
	}
	for what, try := range map[string]struct {
		there map[string]*corev1.Secret
		anew  []string
	}{
		"all":                 {first, nil},
		"none":                {nil, names},
		"those of agents":     {map[string]*corev1.Secret{names[0]: first[names[0]], names[1]: first[names[1]]}, names[2:]},
		"not the relay's":     {map[string]*corev1.Secret{names[0]: first[names[0]], names[2]: first[names[2]], names[3]: first[names[3]]}, names[:2]},
		"not the agents'":     {map[string]*corev1.Secret{names[1]: first[names[1]], names[2]: first[names[2]], names[3]: first[names[3]]}, names[:2]},
		"not the clients'":    {map[string]*corev1.Secret{names[0]: first[names[0]], names[1]: first[names[1]], names[2]: first[names[2]]}, names[2:]},
		"a pair of two CAs":   {map[string]*corev1.Secret{names[0]: first[names[0]], names[1]: second[names[1]], names[2]: first[names[2]], names[3]: first[names[3]]}, names[:2]},
		"those of other runs": {map[string]*corev1.Secret{names[0]: first[names[0]], names[1]: first[names[1]], names[2]: second[names[2]], names[3]: second[names[3]]}, nil},
	} {
		var there secrets
		for _, s := range try.there {
			there = append(there, s)
		}
		now := of(upgraded(t, withTLS, there))
		for _, name := range names {
			old := try.there[name]
			kept := old != nil && reflect.DeepEqual(now[name].Data, old.Data)
			if kept == slices.Contains(try.anew, name) {
				t.Errorf("with %s there, %s is kept: %v", what, name, kept)
			}
		}
		for i := 0; i < len(names); i += 2 {
			if !bytes.Equal(now[names[i]].Data["ca.crt"], now[names[i+1]].Data["ca.crt"]) {
				t.Errorf("with %s there, %s and %s are of two CAs", what, names[i], names[i+1])
			}
		}
	}
}
