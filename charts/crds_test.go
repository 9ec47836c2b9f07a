package charts_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"wirelab.dev/wirelab/internal/crd"
)

// TestSchemasAreTheTypes holds the schemas of the chart against the types that agents write: the same keys, of the same
// shape, at every depth. What they take is tried on a real API server.
func TestSchemasAreTheTypes(t *testing.T) {
	objs := objects(t, "")
	for name, object := range map[string]any{crd.LabNodes: crd.LabNode{}, crd.LabIdentities: crd.LabIdentity{}} {
		def := get[*apiextensionsv1.CustomResourceDefinition](t, objs, "CustomResourceDefinition/"+name+"."+crd.GroupVersion.Group).Spec
		if def.Group != crd.GroupVersion.Group || def.Names.Plural != name || def.Names.Kind != reflect.TypeOf(object).Name() || def.Scope != apiextensionsv1.ClusterScoped {
			t.Errorf("%s is defined as %+v", name, def.Names)
		}
		if len(def.Versions) != 1 || def.Versions[0].Name != crd.GroupVersion.Version {
			t.Fatalf("%s has versions %+v", name, def.Versions)
		}
		compareSchema(t, name, *def.Versions[0].Schema.OpenAPIV3Schema, reflect.TypeOf(object))
	}
}

func compareSchema(t *testing.T, path string, s apiextensionsv1.JSONSchemaProps, typ reflect.Type) {
	t.Helper()
	if want := schemaType(typ); s.Type != want {
		t.Errorf("%s: the schema has type %q, the Go type %s is %q", path, s.Type, typ, want)
	}
	switch {
	case s.Type == "array":
		compareSchema(t, path+"[]", *s.Items.Schema, typ.Elem())
	case s.Type != "object" || strings.HasSuffix(path, ".metadata"):
	case typ.Kind() == reflect.Map:
		compareSchema(t, path+"{}", *s.AdditionalProperties.Schema, typ.Elem())
	default:
		fields := jsonFields(typ)
		for name, p := range s.Properties {
			f, ok := fields[name]
			if !ok {
				t.Errorf("%s.%s is in the schema only", path, name)
				continue
			}
			compareSchema(t, path+"."+name, p, f.Type)
			optional := strings.Contains(f.Tag.Get("json"), ",omit")
			if required := slices.Contains(s.Required, name); required == optional && name != "metadata" && name != "apiVersion" && name != "kind" {
				t.Errorf("%s.%s: required %v in the schema, and left out when empty %v in Go", path, name, required, optional)
			}
		}
		for name := range fields {
			if _, ok := s.Properties[name]; !ok {
				t.Errorf("%s.%s is not in the schema", path, name)
			}
		}
	}
}

// jsonFields are a struct's fields by their keys, those of embedded structs included.
func jsonFields(typ reflect.Type) map[string]reflect.StructField {
	out := map[string]reflect.StructField{}
	for i := range typ.NumField() {
		f := typ.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if options == "inline" {
			for k, v := range jsonFields(f.Type) {
				out[k] = v
			}
			continue
		}
		out[name] = f
	}
	return out
}

// schemaType is the word for what typ is in JSON.
func schemaType(typ reflect.Type) string {
	text := reflect.TypeFor[interface{ MarshalText() ([]byte, error) }]()
	custom := reflect.TypeFor[json.Marshaler]()
	switch k := typ.Kind(); {
	case typ.Implements(text) || typ.Implements(custom) || k == reflect.String:
		return "string"
	case k == reflect.Slice:
		return "array"
	case k == reflect.Struct || k == reflect.Map:
		return "object"
	default:
		return "integer"
	}
}
