package settings

import "cmp"

// Values are n as values of the chart: nested map[string]any with bool, string, int and []any below, as Helm wants them.
// An MTU of 0, no device and no native-routing CIDR are passed on as such. Debug.Verbose is not where Debug is off, which
// makes no difference but that the chart refuses it: a profile may have it from one that it extends.
func (n Network) Values() map[string]any {
	if !n.Debug.Enabled {
		n.Debug.Verbose = ""
	}
	return Keys().values(&n)
}

func (k *Key) values(document any) map[string]any {
	values := map[string]any{}
	for _, c := range k.Below {
		if c.Shape == Section {
			values[c.InChart()] = c.values(document)
			continue
		}
		switch v := c.Value(document).(type) {
		case bool, int:
			values[c.InChart()] = v
		case []string:
			list := make([]any, len(v))
			for i, item := range v {
				list[i] = item
			}
			values[c.InChart()] = list
		default:
			values[c.InChart()] = Written(v)
		}
	}
	return values
}

// Take has n hold what values, which are as [Network.Values] gives them and YAML reads them back, say of its settings. A
// setting that they say nothing of, or nothing that it could be, stays as it is.
func (n *Network) Take(values map[string]any) { Keys().take(n, values) }

func (k *Key) take(document any, values map[string]any) {
	for _, c := range k.Below {
		value := values[c.InChart()]
		if below, ok := value.(map[string]any); ok && c.Shape == Section {
			c.take(document, below)
		} else if v, bad := c.Decoded(value); bad == nil {
			c.Put(document, v)
		}
	}
}

// InChart is k's name in the chart's values.
func (k *Key) InChart() string { return cmp.Or(k.Chart, k.Name) }
