{{/* The image, or the sentence that says how to get one. */}}
{{- define "dragoman.image" -}}
{{- if not .Values.image.repository -}}
{{- fail "image.repository is not set: the project's image lies in no public registry. Make and push it with `hack/image --push REGISTRY/dragoman:TAG`, then install with `--set image.repository=REGISTRY/dragoman --set image.tag=TAG`." -}}
{{- end -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "dragoman.name" -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "dragoman.agent" -}}
{{ include "dragoman.name" . }}-agent
{{- end }}

{{- define "dragoman.controller" -}}
{{ include "dragoman.name" . }}-controller
{{- end }}

{{/* Whether there are admission webhooks, which of them, and their names. */}}
{{- define "dragoman.webhook" -}}
{{- if .Values.controller.webhook.install }}true{{ end -}}
{{- end }}

{{- define "dragoman.converts" -}}
{{- if and .Values.controller.webhook.install .Values.controller.conversion.install }}true{{ end -}}
{{- end }}

{{- define "dragoman.stamps" -}}
{{- if and .Values.controller.webhook.install (eq .Values.controller.mode "controller") }}true{{ end -}}
{{- end }}

{{/* Where a webhook is; call with (list $ "claims"). */}}
{{- define "dragoman.webhookClient" -}}
service:
  name: {{ include "dragoman.webhookName" (index . 0) }}
  namespace: {{ (index . 0).Release.Namespace }}
  path: /admit/{{ index . 1 }}
{{- end }}

{{- define "dragoman.webhookName" -}}
{{ include "dragoman.name" . }}-webhook
{{- end }}

{{- define "dragoman.webhookSecret" -}}
{{ .Values.controller.webhook.secret | default (include "dragoman.webhookName" .) }}
{{- end }}

{{/* All namespaces but this release's: there the controller asks, by a dry run of a claim, what the API server
keeps, and must not have to answer itself first. */}}
{{- define "dragoman.notOurOwn" -}}
matchExpressions:
  - {key: kubernetes.io/metadata.name, operator: NotIn, values: [{{ .Release.Namespace }}]}
{{- end }}

{{/* CEL: whether the extended resource `name` is known here to be one that is converted. In mode controller these
are also the names that stand for classes of ours, as far as the class's own name says so. */}}
{{- define "dragoman.isConverted" -}}
{{- $renamed := .Values.controller.conversion.renamed -}}
{{- $names := list -}}
{{- range .Files.Get "files/legacy-names.yaml" | fromYamlArray -}}
{{- $names = append $names (get $renamed . | default .) -}}
{{- end -}}
{{- if not (include "dragoman.stamps" .) -}}
name in {{ $names | uniq | toJson }}
{{- else -}}
{{- range .Values.controller.webhook.classes -}}
{{- $names = append $names (printf "deviceclass.resource.kubernetes.io/%s" .) -}}
{{- end -}}
(name in {{ $names | uniq | toJson }} || (name.startsWith('deviceclass.resource.kubernetes.io/') && name.endsWith('.dragoman.dev')))
{{- end -}}
{{- end }}

{{/* CEL: whether a container of the pod asks for a resource of which a condition holds; call with (list $ "CEL about
`name`"). */}}
{{- define "dragoman.anyResource" -}}
(object.spec.containers + (has(object.spec.initContainers) ? object.spec.initContainers : [])).exists(c, has(c.resources) && ((has(c.resources.limits) ? [c.resources.limits] : []) + (has(c.resources.requests) ? [c.resources.requests] : [])).exists(amounts, amounts.exists(name, {{ index . 1 }})))
{{- end }}

{{/* What webhooks for pods are asked about, beside their conditions. */}}
{{- define "dragoman.podsOfWebhooks" -}}
rules:
  - apiGroups: [""]
    apiVersions: [v1]
    operations: [CREATE]
    resources: [pods]
    scope: Namespaced
namespaceSelector:
  matchExpressions:
    # What runs the cluster, and this controller itself, must start whether a webhook answers or not.
    - key: kubernetes.io/metadata.name
      operator: NotIn
      values: {{- append .Values.controller.conversion.excludedNamespaces .Release.Namespace | uniq | toYaml | nindent 8 }}
    - {key: dragoman.dev/convert, operator: NotIn, values: ["false"]}
    - {key: hami.io/webhook, operator: NotIn, values: [ignore]}
objectSelector:
  matchExpressions:
    - {key: dragoman.dev/convert, operator: NotIn, values: ["false"]}
    - {key: hami.io/webhook, operator: NotIn, values: [ignore]}
{{- end }}

{{/* CEL: whether a claim names a DeviceClass that is known here to be ours. */}}
{{- define "dragoman.namesOurClass" -}}
{{- $classes := .Values.controller.webhook.classes | toJson -}}
has(object.spec.devices) && has(object.spec.devices.requests) && object.spec.devices.requests.exists(r, (has(r.exactly) && (r.exactly.deviceClassName.endsWith('.dragoman.dev') || r.exactly.deviceClassName in {{ $classes }})) || (has(r.firstAvailable) && r.firstAvailable.exists(s, s.deviceClassName.endsWith('.dragoman.dev') || s.deviceClassName in {{ $classes }})))
{{- end }}

{{/* CEL: whether the object is one of those that run the cluster. */}}
{{- define "dragoman.isSystem" -}}
request.namespace == 'kube-system'
{{- end }}

{{/* Labels that select: they never change. Call with (list $ "agent"). */}}
{{- define "dragoman.selector" -}}
app.kubernetes.io/name: dragoman
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "dragoman.labels" -}}
{{ include "dragoman.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ (index . 0).Chart.Name }}-{{ (index . 0).Chart.Version }}
{{- end }}

{{/* Paths of the node that follow from others. */}}
{{- define "dragoman.pluginDir" -}}
{{ .Values.host.pluginDir | default (printf "%s/plugins/dragoman.dev" (.Values.host.kubeletRoot | trimSuffix "/")) }}
{{- end }}
{{- define "dragoman.registrationDir" -}}
{{ .Values.host.registrationDir | default (printf "%s/plugins_registry" (.Values.host.kubeletRoot | trimSuffix "/")) }}
{{- end }}
{{- define "dragoman.podResourcesDir" -}}
{{ .Values.host.podResourcesDir | default (printf "%s/pod-resources" (.Values.host.kubeletRoot | trimSuffix "/")) }}
{{- end }}

{{/* Whether the cards are simulated, in one of the two ways. */}}
{{- define "dragoman.simulated" -}}
{{- if and .Values.simulated.cards .Values.simulated.nodes -}}
{{- fail "simulated.cards and simulated.nodes are both set: give the cards of every node, or those of single nodes." -}}
{{- end -}}
{{- if or .Values.simulated.cards .Values.simulated.nodes }}true{{ end -}}
{{- end }}

{{/* What every container of ours is held to. */}}
{{- define "dragoman.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}
