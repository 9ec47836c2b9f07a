package cluster

import "testing"

// TestTargetIn reads what ctr prints, of which one image's name may begin with that of another.
func TestTargetIn(t *testing.T) {
	const list = `REF                     TYPE                                                 DIGEST        SIZE    PLATFORMS   LABELS
docker.io/library/app:1 application/vnd.docker.distribution.manifest.v2+json sha256:b580f1 1.9 MiB linux/amd64 io.cri-containerd.image=managed
docker.io/library/app:12 application/vnd.oci.image.index.v1+json sha256:c0ffee 1.9 MiB linux/amd64 -
`
	for name, want := range map[string]string{"docker.io/library/app:1": "sha256:b580f1", "docker.io/library/app:12": "sha256:c0ffee", "docker.io/library/ap": ""} {
		if got := targetIn(list, name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
