# Routespecs of the store that the line names.
_traefik-router_routes() {
    local word option='' given=() specs=()
    for word in "${(@Q)words[2,CURRENT-1]}"; do
        if [[ -n $option ]]; then
            [[ ' @LIST@ ' == *" $option "* ]] && given+=("$option=$word")
            option=''
        elif [[ ' @VALUED@ ' == *" $word "* ]]; then
            option=$word
        elif [[ ' @LIST@ ' == *" ${word%%=*} "* ]]; then
            given+=("$word")
        fi
    done
    specs=("${(@f)$(traefik-router routes list --json "${given[@]}" 2>/dev/null | sed -n 's/^    "routespec": "\(.*\)",\{0,1\}$/\1/p')}")
    compadd -a specs
}
